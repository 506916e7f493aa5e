// The status page: every state that it can be in, what its buttons do, and that it can be read.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { DESKTOP, PHONE, shows } from './browser.mjs';
import { HERE, until } from './world.mjs';

const STATUS = 'tailover/status';
const NOTICE = '#tailover-state .alert-message';
const MODAL = '#modal_overlay .modal';

export function recorded(name) {
	return JSON.parse(fs.readFileSync(path.join(HERE, 'states', name + '.json'), 'utf8'));
}

/* The steps of WCAG's contrast ratio between two colours as CSS gives them. */
function contrast(one, other) {
	const light = (colour) => {
		const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => {
			const value = Number(part) / 255;
			return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
		});
		return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
	};
	const [ darker, lighter ] = [ light(one), light(other) ].sort((a, b) => a - b);

	return (lighter + 0.05) / (darker + 0.05);
}

const button = (page, title) => page.locator('#tailover-buttons button', { hasText: title });
const inModal = (page, title) => page.locator(MODAL + ' button', { hasText: title });

export default function(world, browser) {
	const states = [ 'well', 'steered', 'curing', 'portal', 'control-down', 'drill-2' ];

	for (const name of states) {
		for (const device of [ DESKTOP, PHONE ]) {
			test(`${name}, on a ${device == PHONE ? 'phone' : 'desktop'}, light and dark`, async() => {
				const { status, history } = recorded(name);

				await world.steer({ frames: [ { status, history } ] });
				await browser.with(STATUS, { device }, async(page) => {
					await shows(page, '#tailover-sentence', status.sentence);
					await shows(page, '#tailover-next', status.next.what);

					for (const uplink of status.uplinks)
						await shows(page, '#tailover-cards h4', `${uplink.name} (${uplink.device}`);

					for (const fault of status.faults) {
						await shows(page, '.tailover-fault', fault.text);

						if (fault.advice)
							await shows(page, '.tailover-fault', fault.advice);
					}

					assert.equal(await page.locator('.tailover-fault').count(), status.faults.length);
					assert.equal(await page.locator('.tailover-episode').count(), history.episodes.length);

					for (const scheme of [ 'light', 'dark' ]) {
						await page.emulateMedia({ colorScheme: scheme });
						await page.locator(`:root[data-darkmode="${scheme == 'dark'}"]`).waitFor();
						await picture(page, history, device, scheme);
					}
				});
			});
		}
	}

	/* The picture has all that was told, in colours that stand out, within its place. */
	async function picture(page, history, device, scheme) {
		const drawn = await page.evaluate(() => {
			const svg = document.querySelector('#tailover-day > svg');
			const style = (node) => window.getComputedStyle(node);
			const box = svg.getBoundingClientRect();

			return {
				width: box.width,
				room: document.querySelector('#tailover-day').clientWidth,
				ground: style(document.body).backgroundColor,
				text: [ ...svg.querySelectorAll('text') ].map((text) => ({
					text: text.textContent, fill: style(text).fill, size: parseFloat(style(text).fontSize),
					left: text.getBoundingClientRect().left - box.left, right: text.getBoundingClientRect().right - box.left
				})),
				bars: [ ...svg.querySelectorAll('.tailover-bar, .tailover-used, .tailover-mark') ].map((bar) => ({
					kind: bar.getAttribute('class'), fill: style(bar).fill, stroke: style(bar).stroke,
					left: Number(bar.getAttribute('x')), right: Number(bar.getAttribute('x')) + Number(bar.getAttribute('width'))
				})),
				marks: svg.querySelectorAll('.tailover-mark').length
			};
		});
		const day = history.episodes.filter((episode) => episode.began_ago - episode.seconds < 86400);

		assert.ok(contrast(drawn.ground, 'rgb(0, 0, 0)') > 7 == (scheme == 'light'), `${scheme}: ${drawn.ground}`);
		assert.ok(drawn.width <= drawn.room, `${drawn.width} of ${drawn.room} pixels`);
		assert.ok(device != PHONE || drawn.width > 250, 'it uses the room that there is');
		assert.equal(drawn.marks, day.length);

		for (const way of history.timeline.ways)
			assert.ok(drawn.text.some((text) => text.text == `${way.uplink} ${way.family}`));

		for (const { text, fill, size, left, right } of drawn.text) {
			assert.ok(contrast(fill, drawn.ground) >= 4.5, `${text}: ${fill} on ${drawn.ground}`);
			assert.ok(size >= 10 && left >= -1 && right <= drawn.width + 1, `${text}: ${left} to ${right}`);
		}

		for (const { kind, fill, stroke, left, right } of drawn.bars) {
			const colour = fill == 'none' ? stroke : fill;

			assert.ok(contrast(colour, drawn.ground) >= 3, `${kind}: ${colour} on ${drawn.ground}`);
			assert.ok(left >= 0 && right <= drawn.width + 1, `${kind}: ${left} to ${right}`);
		}

		/* A bar for each verdict that the slots have, in as many stretches. */
		for (const [ bit, word ] of [ [ 1, 'open' ], [ 2, 'dns-dead' ], [ 4, 'portal' ], [ 8, 'closed' ], [ 16, 'used' ] ]) {
			const stretches = history.timeline.ways.reduce((sum, way) => {
				const bits = [ ...way.slots ].map((slot) => ((slot.charCodeAt(0) - 48) & bit ? '1' : '0')).join('');
				return sum + (bits.match(/1+/g) || []).length;
			}, 0);
			const bars = drawn.bars.filter(({ kind }) => kind.endsWith('tailover-' + word));

			assert.equal(bars.length, stretches, word);
		}
	}

	test('a slot is drawn where its time is', async() => {
		const { status } = recorded('well');
		const slots = '0'.repeat(275) + '8'.repeat(12) + 'A';
		const history = { episodes: [], timeline: { slot: 300, age: 0, ways: [ { uplink: 'wan', family: 'IPv4', slots } ] } };

		await world.steer({ frames: [ { status, history } ] });
		await browser.with(STATUS, {}, async(page) => {
			const { closed, width } = await page.evaluate(() => {
				const bar = document.querySelector('#tailover-day > svg .tailover-closed');
				return {
					closed: [ 'x', 'width' ].map((name) => Number(bar.getAttribute(name))),
					width: Number(document.querySelector('#tailover-day > svg').getAttribute('width'))
				};
			});

			/* Closed for an hour, until now: the last 1/24 of the picture. */
			assert.ok(Math.abs(closed[0] - width * 23 / 24) < 2, `${closed[0]} of ${width}`);
			assert.ok(Math.abs(closed[1] - width / 24) < 2);
		});
	});

	test('what was unfolded stays so when the page polls, and the text is text', async() => {
		const hostile = '<img src=x onerror="document.title=1"><b>bold</b>';
		const { status, history } = recorded('portal');

		status.faults[0].evidence = [ hostile ];
		status.faults[0].text = hostile;
		status.sentence = hostile;
		status.uplinks[0].name = hostile;
		status.uplinks[0].ipv4.evidence = hostile;
		history.episodes = [ { trigger: hostile, began_ago: 60, seconds: 1, outcome: hostile, faults: [], acts: [
			{ cure: hostile, after: 0, ok: true, result: hostile } ], drill: null } ];
		await world.steer({ frames: [ { status, history } ] });
		await browser.with(STATUS, {}, async(page) => {
			await page.locator('.tailover-fault summary').first().click();
			await page.locator('.tailover-episode summary').first().click();
			await world.calls();

			let polls = 0;

			await until('it has polled twice', async() => {
				polls += (await world.calls()).filter(([ , method ]) => method == 'status').length;
				return polls >= 2;
			});
			assert.equal(await page.locator('.tailover-fault details[open]').count(), 1);
			assert.equal(await page.locator('.tailover-episode[open]').count(), 1);
			await shows(page, '#tailover-sentence', hostile);
			await shows(page, '.tailover-fault li', hostile);
			assert.equal(await page.locator('#view img, #view b').count(), 0);
		});
	});

	test('the daemon as it is: well, then without tailscaled, then well again, without a reload', async() => {
		await world.steer({});
		await until('it is well', () => world.call('status').sentence == 'the tailnet is well');
		await browser.with(STATUS, {}, async(page) => {
			await shows(page, '#tailover-sentence', 'the tailnet is well');
			await shows(page, '#tailover-cards', 'wan (eth1)');
			await shows(page, '#tailover-cards', '[192.0.2.2]');
			await shows(page, '#tailover-day svg text', 'wanb IPv4');
			assert.equal(await page.locator('#tailover-day > svg .tailover-used').count(), 1);
			await world.tailscaled.end();
			await shows(page, '#tailover-sentence', 'does not run');
			await world.startTailscaled();
			await shows(page, '#tailover-sentence', 'the tailnet is well');
		});
	});

	test('a daemon that is stopped is named, with what to do, and found again', async() => {
		await world.steer({});
		await world.daemon.end();

		try {
			for (const device of [ DESKTOP, PHONE ]) {
				await browser.with(STATUS, { device, scheme: 'dark' }, async(page) => {
					await shows(page, NOTICE, 'tailover does not run.');
					await shows(page, NOTICE, 'service tailover start');
					assert.ok(await button(page, 'Check').isDisabled());
					assert.equal(await page.locator('#tailover-day svg').count(), 0);
				});
			}

			await browser.with(STATUS, {}, async(page) => {
				await shows(page, NOTICE, 'tailover does not run.');
				await world.startDaemon();
				await shows(page, '#tailover-sentence', 'the tailnet is well');
				assert.ok(await button(page, 'Check').isEnabled());
				await world.daemon.end();
				await shows(page, NOTICE, 'tailover does not run.');
				assert.ok(await button(page, 'Check').isDisabled());
			});
		}
		finally {
			if (world.daemon.child.exitCode != null || world.daemon.child.signalCode != null)
				await world.startDaemon();
		}

		await until('it is well again', () => world.call('status').sentence == 'the tailnet is well');
	});

	test('an older daemon: fields, the timeline and the history missing', async() => {
		await world.steer({ drops: [ 'sentence', 'next', 'path', 'tailnet', 'warnings', 'last', 'uptime', 'steering', 'timeline' ] });
		await browser.with(STATUS, { device: PHONE }, async(page) => {
			await shows(page, NOTICE, 'does not tell: sentence, path, tailnet, next.');
			await shows(page, NOTICE, 'Upgrade the package tailover');
			await shows(page, '#tailover-cards', 'wanb (eth2)');
			await shows(page, '#tailover-day', 'does not tell verdicts over time');
		});

		await world.steer({ lacks: [ 'history' ] });
		await browser.with(STATUS, {}, async(page) => {
			await shows(page, '#tailover-episodes .alert-message', 'does not know "history"');
			await shows(page, '#tailover-sentence', 'the tailnet is well');
		});

		await world.steer({ lacks: [ 'drill', 'check' ] });
		await browser.with(STATUS, {}, async(page) => {
			await button(page, 'Drill').click();
			await inModal(page, 'Start the drill').click();
			await shows(page, MODAL, 'does not know "drill"');
			await inModal(page, 'Close').click();
			await button(page, 'Check').click();
			await inModal(page, 'Check now').click();
			await shows(page, MODAL, 'Upgrade the package tailover');
		});

		await world.steer({ lacks: [ 'status' ] });
		await browser.with(STATUS, {}, (page) => shows(page, NOTICE, 'does not know "status"'));
	});

	test('a daemon that does not answer in time, and one that fails', async() => {
		await world.steer({ fails: { status: 7 } });
		await browser.with(STATUS, {}, (page) => shows(page, NOTICE, 'did not answer in time'));
		await world.steer({ fails: { status: 9 } });
		await browser.with(STATUS, {}, (page) => shows(page, NOTICE, 'cannot be asked: Unspecified error'));
		await world.steer({ fails: { check: 9 } });
		await browser.with(STATUS, {}, async(page) => {
			await button(page, 'Check').click();
			await inModal(page, 'Check now').click();
			await shows(page, MODAL, 'Unspecified error');
		});
	});

	test('a login without any right is told so', async() => {
		await world.steer({});
		await browser.with(STATUS, { access: 'none', device: PHONE }, async(page) => {
			await shows(page, NOTICE, 'may not call "status"');
			await shows(page, NOTICE, 'access group luci-app-tailover');
			assert.ok(await button(page, 'Drill').isDisabled());
		});
	});

	test('a login that may look sees all and cannot act', async() => {
		await world.steer({});
		await browser.with(STATUS, { access: 'read', device: PHONE, scheme: 'dark' }, async(page) => {
			await shows(page, '#tailover-sentence', 'the tailnet is well');
			await shows(page, '#tailover-readonly', 'may look and not act');

			for (const title of [ 'Check', 'Recover', 'Drill' ])
				assert.ok(await button(page, title).isDisabled(), title);

			/* The page is not what keeps it: the router refuses. */
			const refused = await page.evaluate(async() => {
				const rpc = await L.require('rpc');
				const calls = [ [ 'check', {} ], [ 'recover', {} ], [ 'drill', { uplink: 'wan' } ] ];
				return Promise.all(calls.map(([ method ]) =>
					rpc.declare({ object: 'tailover', method: method })().catch((e) => e.message)));
			});

			for (const answer of refused)
				assert.match(String(answer), /-32002: Access denied/);
		});
	});

	test('a right that is lost while the page is open is told when a button is pressed', async() => {
		await world.steer({ fails: { recover: 6 } });
		await browser.with(STATUS, {}, async(page) => {
			await button(page, 'Recover').click();
			await inModal(page, 'Recover now').click();
			await shows(page, MODAL, 'may not call "recover"');
		});
	});

	test('check asks first, probes, and shows what it has found', async() => {
		await world.steer({});
		await browser.with(STATUS, { device: PHONE }, async(page) => {
			await button(page, 'Check').click();
			await shows(page, MODAL, 'Nothing is changed');
			assert.deepEqual(acts(await world.calls()), []);
			await inModal(page, 'Close').click();
			await button(page, 'Check').click();
			await inModal(page, 'Check now').click();
			await shows(page, MODAL, 'Result of the check');
			await shows(page, MODAL + ' .tailover-sentence', 'the tailnet is well');
			await page.locator(MODAL + ' summary').click();
			await shows(page, MODAL, 'wanb (eth2)');
			assert.deepEqual(acts(await world.calls()), [ [ 'tailover', 'check', {} ] ]);
			await browser.inOrder(page);
			await inModal(page, 'Close').click();
			await page.locator(MODAL).waitFor({ state: 'hidden' });
		});
	});

	test('a check that finds a fault shows what was seen and what would be done', async() => {
		const { status, history } = recorded('portal');

		await world.steer({ frames: [ { status, history } ], would: [ 'steer IPv4' ] });
		await browser.with(STATUS, { device: PHONE, scheme: 'dark' }, async(page) => {
			await button(page, 'Check').click();
			await inModal(page, 'Check now').click();
			await shows(page, MODAL, status.faults[0].text);
			await shows(page, MODAL, 'the daemon would now steer IPv4');
			await page.locator(MODAL + ' .tailover-fault summary').click();
			await shows(page, MODAL + ' li', status.faults[0].evidence[0]);
			await browser.inOrder(page);
		});
	});

	test('recover asks first, is done, and says how it ended', async() => {
		await world.steer({});
		await browser.with(STATUS, {}, async(page) => {
			await button(page, 'Recover').click();
			assert.deepEqual(acts(await world.calls()), []);
			await page.locator('#tailover-force').check();
			await inModal(page, 'Recover now').click();
			await shows(page, MODAL, 'Done: nothing is wrong.');
			assert.deepEqual(acts(await world.calls()), [ [ 'tailover', 'recover', { force: true } ] ]);
			assert.ok(world.daemon.said('asked for by the owner') || world.daemon.said('looking: '));
		});
		await until('it is well', () => world.call('status').sentence == 'the tailnet is well');
	});

	test('recover that does not succeed says what is left', async() => {
		const { status, history } = recorded('portal');

		await world.steer({ frames: [ { status, history } ] });
		await browser.with(STATUS, {}, async(page) => {
			await button(page, 'Recover').click();
			await inModal(page, 'Recover now').click();
			await shows(page, MODAL, 'not all is well');
			await shows(page, MODAL, status.faults[0].advice);
		});
	});

	test('a drill: its uplink is chosen, it is followed, and its figures are shown', async() => {
		await world.steer({});
		await browser.with(STATUS, { device: PHONE }, async(page) => {
			await button(page, 'Drill').click();
			assert.equal(await page.locator('#tailover-uplink').inputValue(), 'wan');
			assert.deepEqual(await page.locator('#tailover-uplink option').allTextContents(), [ 'wan (eth1), in use', 'wanb (eth2)' ]);
			await browser.inOrder(page);

			for (const wrong of [ '601', '-1', '1.5', 'x', '' ]) {
				await page.locator('#tailover-stay').fill(wrong);
				await inModal(page, 'Start the drill').click();
				await shows(page, '#tailover-stay-error', 'from 0 to 600');
			}

			assert.deepEqual(acts(await world.calls()), []);
			await page.locator('#tailover-stay').fill('2');
			await inModal(page, 'Start the drill').click();
			await shows(page, MODAL, 'well over wanb');
			await shows(page, MODAL, 'Passed: control');
			assert.deepEqual(acts(await world.calls()), [ [ 'tailover', 'drill', { uplink: 'wan', seconds: 2 } ] ]);
			assert.equal(world.call('status').last.drill.passed, true);
			await browser.inOrder(page);
			await inModal(page, 'Close').click();
			await shows(page, '.tailover-episode', 'drill of wan asked for by the owner');
			assert.ok(await page.locator('#tailover-day > svg .tailover-mark.tailover-drill').count() >= 1);
		});
	});

	test('a drill that is refused says why', async() => {
		await world.steer({});
		await browser.with(STATUS, {}, async(page) => {
			await button(page, 'Drill').click();
			await page.locator('#tailover-uplink').selectOption('wanb');
			await inModal(page, 'Start the drill').click();
			await shows(page, MODAL, 'No drill');
			await shows(page, MODAL + ' .alert-message', world.call('drill', { uplink: 'wanb' }).refused);
		});
	});

	test('a drill can be stopped, from its dialog and from the page', async() => {
		for (const from of [ MODAL, '#tailover-buttons' ]) {
			await until('it is well', () => world.call('status').sentence == 'the tailnet is well');
			await world.steer({});
			await browser.with(STATUS, {}, async(page) => {
				await button(page, 'Drill').click();
				await page.locator('#tailover-stay').fill('600');
				await inModal(page, 'Start the drill').click();
				await shows(page, MODAL, 'well over wanb');

				if (from == '#tailover-buttons')
					await inModal(page, 'Close').click();

				await page.locator(from + ' button', { hasText: 'Stop the drill' }).click();
				await until('it has ended', () => world.call('status').episode == null);
				assert.deepEqual(acts(await world.calls()).pop(), [ 'tailover', 'drill', { stop: true } ]);

				if (from == MODAL)
					await shows(page, MODAL, 'Not passed: ');

				await button(page, 'Drill').waitFor();
			});
		}
	});

	test('a drill, in its recorded steps', async() => {
		const frames = [ 0, 1, 2, 3, 4 ].map((at) => recorded('drill-' + at));

		await world.steer({ frames });
		await browser.with(STATUS, { scheme: 'dark' }, async(page) => {
			await button(page, 'Drill').click();
			await inModal(page, 'Start the drill').click();
			await shows(page, MODAL + ' .spinning', 'turned away from wan (eth1) for a drill');
			await world.steer({ next: true });
			await shows(page, MODAL + ' .spinning', 'drill of wan: well over wanb');
			await world.steer({ next: true });
			await shows(page, MODAL, 'the rehearsal is over');
			await world.steer({ next: true });
			await shows(page, MODAL, 'Passed: ' + frames[4].status.last.drill.summary);
		});
	});

	/* The last: the way back takes half a minute. An uplink without a link is none. */
	test('a real failover, as it happens', async() => {
		await until('it is well', () => world.call('status').sentence == 'the tailnet is well');
		await world.steer({});
		await browser.with(STATUS, { device: PHONE, scheme: 'dark' }, async(page) => {
			await shows(page, '#tailover-sentence', 'the tailnet is well');
			await world.outsideDoes('dark isp1');
			await shows(page, '#tailover-sentence', 'its packets are steered by wanb (eth2)');
			await shows(page, '#tailover-cards', 'steered by tailover');
			await shows(page, '.tailover-episode', '(healed)');
			assert.equal(await page.locator('#tailover-day > svg .tailover-used').count(), 2);
		});
		await world.outsideDoes('light isp1');
	});

	/* What a page has ordered, without its looks. */
	function acts(calls) {
		return calls.filter(([ thing, method ]) => thing == 'tailover' && method != 'status' && method != 'history')
			.map(([ thing, method, words ]) => [ thing, method, words ]);
	}
}
