// The settings: what the form takes is what the daemon takes, in the same words; what it saves is a good file.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';

import { DESKTOP, PHONE, shows } from './browser.mjs';
import { load } from './modules.mjs';
import { until } from './world.mjs';

const SETTINGS = 'tailover/settings';
const MODAL = '#modal_overlay .modal';
const options = load('tailover.options').list;
const check = load('tailover.check');

/* Values for every kind of option, at the edges and beyond. */
const VALUES = [
	'0', '1', '2', '3', '59', '60', '61', '99', '100', '185', '186', '255', '256', '998', '999', '3600', '3601',
	'65000', '65001', '86400', '86401', '4294967295', '4294967296', '99999999999999999999', '007', '00', '-1', '+1', '1 ', ' ',
	'0.1', '0.0999', '0.099', '0.100', '.5', '5.', '0.2', '10.001', '60.001', '86400.001', '3600.0', '1.2345', '1e3', '0x10',
	'0x', '0X10', '0xffffffff', '0x100000000', '0xg', '0x3F00', 'on', 'off', 'yes', 'no', 'true', 'false', 'enabled',
	'disabled', 'On', 'error', 'warn', 'info', 'debug', 'trace', 'INFO', 'steer', 'nudge', 'renew', 'mend', 'restart', 'prayer',
	'0x80000/0xff0000', '0x80000/0x80000', '0/0xff', '1/0', '1/1', '2/1', '1/1/1', '/', '524288/16711680', '0x100/0xf00',
	'0x80000000/0x80000000', '0xffffffff/0xffffffff', 'wan', 'eth0.2@lan-15chars', 'a/b', 'x'.repeat(64), 'x'.repeat(65), 'wä',
	'tail/scale', '-tailscale', '.tailscale', '_x', 'tail.scale-1', 'tail scale', '/', '/tmp/a b', 'tmp/a', '/tmp/ü', '/tmp/a\u0085',
	'/' + 'x'.repeat(106), '/' + 'x'.repeat(107), '/' + 'ü'.repeat(53), '/' + 'ü'.repeat(54), '/' + 'x'.repeat(4094),
	'/' + 'x'.repeat(4095), 'derp', 'DERP', 'stun', 'tcp:8.8.8.8:53', 'tcp:8.8.8.8', 'tcp:8.8.8.8:0', 'tcp:8.8.8.8:65535',
	'tcp:8.8.8.8:65536', 'tcp:8.8.8.8:053', 'tcp:8.8.8.8:+53', 'tcp:8.8.8.8:', 'tcp::53', 'tcp:0.0.0.0:53', 'tcp:256.1.1.1:53',
	'tcp:1.1.1:53', 'tcp:01.1.1.1:53', 'tcp:1.1.1.1.:53', 'tcp:[::]:53', 'tcp:[::1]:53', 'tcp:[2001:4860:4860::8888]:53',
	'tcp:2001:4860:4860::8888:53', 'tcp:[1:2:3:4:5:6:7:8]:1', 'tcp:[1:2:3:4:5:6:7::]:1', 'tcp:[::2:3:4:5:6:7:8]:1',
	'tcp:[1:2:3:4::5:6:7:8]:1', 'tcp:[1:2:3:4:5:6:7:8:9]:1', 'tcp:[1::2::3]:1', 'tcp:[::ffff:1.2.3.4]:1', 'tcp:[::1.2.3.4:1]:1',
	'tcp:[1:2:3:4:5:6:7:1.2.3.4]:1', 'tcp:[12345::]:1', 'tcp:[fe80::1%eth0]:1', 'tcp:[]:1', 'tcp:[:1', 'tcp:[::0.0.0.0]:1',
	'tcp:[:::1]:1', 'tcp:[1:]:1', 'tcp:Resolver.example.:5353', 'tcp:a..b:1', 'tcp:-a.b:1', 'tcp:a-.b:1', 'tcp:a_b.c:1',
	'tcp:a.123:1', 'tcp:123:1', 'tcp:' + 'a'.repeat(63) + '.b:1', 'tcp:' + 'a'.repeat(64) + '.b:1',
	'tcp:' + 'a.'.repeat(126) + 'b:1', 'tcp:' + 'a.'.repeat(127) + 'b:1', 'udp:1.1.1.1:53', 'http://192.0.2.1', 'http:http://192.0.2.1/x',
	'https:http://example.com', 'https://example.com', 'https:https://[2001:db8::1]/up?x=1', 'https://[2001:db8::1]:8443', 'https://',
	'https://example.com:0/', 'https://example.com:x/', 'https://example.com?x=1:2', 'https://user@example.com/', 'https://example.com/#a',
	'https://exa mple.com/', 'HTTPS://example.com', 'ftp://example.com', 'https://[::]/', 'https://0.0.0.0', 'https://example.com:443/a:b]',
	'foo:foo://x', 'https://a.b/ü', 'https://api.ipify.org?format=json'
];

/* A file with these values, and for each of its lines the option it is of. */
function written(given) {
	const lines = [ "config tailover 'main'" ], of = [ null ];

	for (const option of options) {
		for (const value of given[option.name] || []) {
			lines.push("\t%s %s '%v'".replace('%s', option.list ? 'list' : 'option').replace('%s', option.name)
				.replace('%v', () => value));
			of.push(option.name);
		}
	}

	return { text: lines.join('\n') + '\n', of };
}

/* What the daemon says of a file: option, and what is allowed. */
function daemons(world, given) {
	const { text, of } = written(given);

	return world.judge(text).split('\n').filter((line) => line.includes('; allowed: ')).map((line) => {
		const [ , number, name, allowed ] = line.match(/^.*?:(\d+): option '(\w+)' is '.*'; allowed: (.*)$/);

		assert.equal(of[number - 1], name, line);
		return `${name}: ${allowed}`;
	}).sort();
}

function forms(given) {
	return [ ...check.problems(options, given) ].map((found) => `${found.name}: ${found.allowed}`).sort();
}

export default function(world, browser) {
	test('the form takes what the daemon takes, and says what it says', () => {
		let refused = 0, taken = 0;

		for (const value of VALUES) {
			const given = {};

			for (const option of options)
				given[option.name] = [ value ];

			const said = daemons(world, given);

			assert.deepEqual(forms(given), said, `each option as '${value}'`);
			refused += said.length;
			taken += options.length - said.length;
		}

		/* The values are worth something only when both happen, for each option. */
		assert.ok(refused > 1000 && taken > 300, `${refused} refused, ${taken} taken`);

		for (const option of options) {
			assert.ok(VALUES.some((value) => check.fits(option, value)), option.name);
			assert.ok(VALUES.some((value) => !check.fits(option, value)), option.name);
		}
	});

	test('what options say about each other', () => {
		const cases = [
			{ restart_min: [ '600' ], restart_max: [ '30' ] }, { restart_min: [ '7200' ] }, { restart_max: [ '59.5' ] },
			{ restart_max: [ '60' ] }, { restart_min: [ 'x' ], restart_max: [ '30' ] }, { mmx_mask: [ '0x10000' ] },
			{ mark: [ '0x100/0xf00' ] }, { mark: [ '0x100/0xf00' ], mmx_mask: [ '0xf0' ] }, { mark: [ 'x' ], mmx_mask: [ '0x10000' ] },
			{ mark: [ '0x80000000/0x80000000' ], mmx_mask: [ '0x80000000' ] }, { external_ip: [ 'off' ] },
			{ external_ip: [ 'stun', 'off' ] }, { external_ip: [ 'off', 'off' ] }, { external_ip: [ 'off', 'ftp://x' ] },
			{ cure: [ 'steer', 'prayer', 'mend' ] }, { uplink: [ 'wan', 'a/b', 'c/d' ] }, {}
		];

		for (const given of cases)
			assert.deepEqual(forms(given), daemons(world, given), JSON.stringify(given));
	});

	test('a list may be written in one line', () => {
		const uplink = options.find((option) => option.name == 'uplink');

		assert.deepEqual([ ...check.values(uplink, 'wan  wanb') ], [ 'wan', 'wanb' ]);
		assert.equal(world.judge("config tailover 'main'\n\toption uplink 'wan  wanb'\n"), '');
	});

	const field = (page, name) => page.locator(`.cbi-value[data-name="${name}"]`);
	const tab = (page, name) => page.locator(`.cbi-tabmenu [data-tab="${name}"] a`).click();
	const input = (page, name) => field(page, name).locator('input[type="text"]').first();

	async function type(page, name, text) {
		await input(page, name).fill(text);
		await input(page, name).press('Tab');
		/* Both a key and the loss of the focus have LuCI judge it. */
		await input(page, name).dispatchEvent('keyup');
	}

	/* Through the widget itself: how values are picked and taken away differs from version to version of LuCI. */
	const set = (page, name, values) => page.evaluate(async([ name, values ]) => {
		const dom = await L.require('dom');
		dom.callClassMethod(document.getElementById('cbid.tailover.main.' + name), 'setValue', values);
	}, [ name, values ]);

	const save = (page) => page.locator('.cbi-page-actions .cbi-button-save').click();

	/* Saves what is refused with `text`. LuCI throws what it has shown; it may come a moment after the dialog. */
	const refused = async(page, text) => {
		await save(page);
		await shows(page, MODAL, text);
		await until('LuCI throws what it has shown', () => page.errors.some((error) => error.includes(text)));
		page.errors = page.errors.filter((error) => !error.includes(text));
	};

	for (const [ device, scheme ] of [ [ DESKTOP, 'light' ], [ PHONE, 'dark' ] ]) {
		test(`every option is in the form with its help, ${device == PHONE ? 'phone' : 'desktop'}, ${scheme}`, async() => {
			await world.steer({});
			await browser.with(SETTINGS, { device, scheme }, async(page) => {
				for (const name of [ 'general', 'probes', 'expert' ]) {
					await tab(page, name);
					await browser.inOrder(page);
				}

				for (const option of options) {
					const text = await field(page, option.name).locator('.cbi-value-description').textContent();

					for (const part of [ option.help, option.allowed, ...option.default ])
						assert.ok(text.includes(part), `${option.name}: ${text} lacks ${part}`);
				}

				assert.equal(await page.locator('.cbi-value').count(), options.length);
			});
		});
	}

	test('a wrong value is refused with the daemon\'s words, and nothing is saved', async() => {
		const wrong = { hold: '86400.001', interval: '0', priority: '999', mark: '0x80000', socket: 'a', service: 'a/b', tcp_timeout: '3s' };
		const places = { hold: 'general', interval: 'probes', tcp_timeout: 'probes' };

		await world.steer({});

		await browser.with(SETTINGS, {}, async(page) => {
			const before = fs.readFileSync(world.config, 'utf8');

			for (const [ name, value ] of Object.entries(wrong)) {
				const option = options.find((option) => option.name == name);

				assert.match(world.judge(written({ [name]: [ value ] }).text), new RegExp(`option '${name}'`));
				await tab(page, places[name] || 'expert');

				const kept = await input(page, name).inputValue();

				await type(page, name, value);
				assert.match(await input(page, name).getAttribute('class'), /cbi-input-invalid/);
				assert.ok((await input(page, name).getAttribute('data-tooltip')).includes(option.allowed));
				await refused(page, `${name}: '${value}' is not allowed; allowed: ${option.allowed}`);
				await page.locator(MODAL + ' button').click();
				await type(page, name, kept);
				assert.doesNotMatch(await input(page, name).getAttribute('class'), /cbi-input-invalid/);
			}

			assert.ok(!(await world.calls()).some(([ thing, method ]) => thing == 'uci' && ![ 'get', 'changes' ].includes(method)));
			assert.equal(fs.readFileSync(world.config, 'utf8'), before);
		});
	});

	test('options that do not go together are refused when they are saved', async() => {
		await world.steer({});

		for (const [ name, value, other, text ] of [
			[ 'restart_min', '600', 'restart_max', 'restart_min (600) not above restart_max (30)' ],
			[ 'mmx_mask', '0x10000', 'mark', 'no bit that is both in mmx_mask (0x10000) and in the mask of mark (0xff0000)' ]
		]) {
			await browser.with(SETTINGS, {}, async(page) => {
				await tab(page, 'expert');
				await type(page, name, value);

				if (other == 'restart_max')
					await type(page, other, '30');

				await refused(page, text);
			});
		}
	});

	test('a wrong item of a list is refused, and `off` stands alone', async() => {
		await world.steer({});
		await browser.with(SETTINGS, {}, async(page) => {
			await type(page, 'uplink', 'a/b');
			assert.match(await input(page, 'uplink').getAttribute('class'), /cbi-input-invalid/);
			await refused(page, 'no blanks, no /');
			await page.locator(MODAL + ' button').click();
			await input(page, 'uplink').fill('');
			await type(page, 'uplink', 'wan');
			await tab(page, 'probes');
			await input(page, 'external_ip').fill('off');
			await input(page, 'external_ip').press('Enter');
			await refused(page, 'off alone, or the others without it');
		});
	});

	test('what is saved is what the daemon takes, and it takes it', async() => {
		const pid = world.daemon.child.pid, before = fs.readFileSync(world.config, 'utf8');

		await world.steer({ pid });

		try {
			await browser.with(SETTINGS, { device: PHONE }, async(page) => {
				await field(page, 'log_level').locator('select').selectOption('debug');
				await input(page, 'uplink').fill('wan');
				await input(page, 'uplink').press('Enter');
				await input(page, 'uplink').fill('wanb');
				await input(page, 'uplink').press('Enter');
				await type(page, 'hold', '45.5');
				await type(page, 'history', "/tmp/it's a place");
				await set(page, 'cure', [ 'steer', 'renew' ]);
				await tab(page, 'probes');
				await input(page, 'target').fill('tcp:[2001:4860:4860::8888]:53');
				await input(page, 'target').press('Enter');
				await tab(page, 'expert');
				await type(page, 'mark', '0x80000/0x80000');
				await save(page);
				await until('it is staged', async() => (await world.calls()).some(([ thing, method ]) => thing == 'uci' && method == 'set'));
				assert.equal(fs.readFileSync(world.config, 'utf8'), before, 'nothing is applied before it is asked for');
				await page.evaluate(() => L.require('ui').then((ui) => { ui.changes.apply(false); }));
				await until('it is applied', () => fs.readFileSync(world.config, 'utf8') != before);
			});

			const after = fs.readFileSync(world.config, 'utf8');

			for (const line of [
				"option log_level 'debug'", "list uplink 'wan'", "list uplink 'wanb'", "option hold '45.5'", "list cure 'steer'",
				"list cure 'renew'", "list target 'tcp:[2001:4860:4860::8888]:53'", "option mark '0x80000/0x80000'",
				"option history '/tmp/it'\\''s a place'", `option ubus_socket '${world.socket}'`
			])
				assert.ok(after.includes(line), `${line}: ${after}`);

			assert.ok(!after.includes("cure 'nudge'"));
			assert.equal(world.judge(after), '');
			await until('the daemon has read it', () => world.daemon.said('the configuration was read again'));
		}
		finally {
			fs.writeFileSync(world.config, before);
			world.daemon.child.kill('SIGHUP');
		}
	});

	test('a field that is emptied has the default again', async() => {
		const before = fs.readFileSync(world.config, 'utf8');

		fs.writeFileSync(world.config, before + "\toption hold '77'\n\toption enabled 'no'\n\toption uplink 'wan wanb'\n");
		await world.steer({});

		try {
			await browser.with(SETTINGS, {}, async(page) => {
				assert.equal(await input(page, 'hold').inputValue(), '77');
				assert.equal(await field(page, 'enabled').locator('input[type="checkbox"]').isChecked(), false);
				assert.deepEqual(await field(page, 'uplink').locator('.item span').allTextContents(), [ 'wan', 'wanb' ]);
				await type(page, 'hold', '');
				await field(page, 'enabled').locator('input[type="checkbox"]').check();
				await set(page, 'uplink', []);
				await save(page);
				await until('it is saved', async() => (await world.calls()).some(([ thing, method ]) => thing == 'uci' && method == 'delete'));
				await page.evaluate(() => L.require('ui').then((ui) => { ui.changes.apply(false); }));
				await until('it is applied', () => fs.readFileSync(world.config, 'utf8').includes('ubus_socket') &&
					!fs.readFileSync(world.config, 'utf8').includes('77'));
			});

			const after = fs.readFileSync(world.config, 'utf8');

			for (const name of [ 'hold', 'enabled', 'uplink' ])
				assert.ok(!after.includes(` ${name} `), after);
		}
		finally {
			fs.writeFileSync(world.config, before);
		}
	});

	test('a login that may look can change nothing', async() => {
		await world.steer({});
		await browser.with(SETTINGS, { access: 'read', device: PHONE }, async(page) => {
			assert.ok(await input(page, 'hold').isDisabled());
			assert.ok(await page.locator('.cbi-page-actions .cbi-button-save').isDisabled());

			const answer = await page.evaluate(async() => {
				const rpc = await L.require('rpc');
				const set = rpc.declare({ object: 'uci', method: 'set', params: [ 'config', 'section', 'values' ] });
				return set('tailover', 'main', { enabled: '0' });
			});

			assert.equal(answer, 6);
		});
	});
}
