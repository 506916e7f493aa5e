// The app's files without a browser: they parse, they keep one style, and what is made of them is up to date.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import vm from 'node:vm';
import { test } from 'node:test';

import { APP, load } from './modules.mjs';
import { HERE, ROOT } from './world.mjs';

const TEMPLATE = path.join(APP, 'po/templates/tailover.pot');
const read = (file) => fs.readFileSync(file, 'utf8');
const json = (name) => JSON.parse(read(path.join(APP, name)));

function files(folder, end) {
	return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
		const file = path.join(folder, entry.name);

		if (entry.name == 'node_modules')
			return [];

		return entry.isDirectory() ? files(file, end) : file.endsWith(end) ? [ file ] : [];
	}).sort();
}

const pages = files(path.join(APP, 'htdocs'), '.js');
const tests = [ ...files(HERE, '.mjs'), ...files(path.join(HERE, 'double'), '.js') ];

/* Texts that are translated: those in _('…'), and the titles and descriptions in JSON; as LuCI's i18n-scan.pl. */
function texts() {
	const found = new Map();
	const add = (text, file, line) => {
		const place = `#: ${path.relative(path.join(ROOT, 'openwrt'), file)}:${line}`;

		found.set(text, [ ...(found.get(text) || []), place ]);
	};

	for (const file of pages) {
		read(file).split('\n').forEach((line, at) => {
			for (const [ , text ] of line.matchAll(/\b_\('((?:[^'\\]|\\.)*)'\)/g))
				add(text.replace(/\\'/g, "'"), file, at + 1);
		});
	}

	for (const file of files(path.join(APP, 'root'), '.json')) {
		read(file).split('\n').forEach((line, at) => {
			const title = line.match(/^\s*"(?:title|description)": "(.*)",?$/);

			if (title)
				add(title[1], file, at + 1);
		});
	}

	return found;
}

function template() {
	const found = texts();
	const entries = [ ...found.keys()].sort().map((text) =>
		`\n${[ ...new Set(found.get(text)) ].join('\n')}\nmsgid ${JSON.stringify(text)}\nmsgstr ""\n`);

	return 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n' + entries.join('');
}

export default function() {
	test('every file parses', () => {
		for (const file of pages)
			new vm.Script('(function() {' + read(file) + '\n})', { filename: file });

		/* The others are running just now. */
		for (const file of tests.filter((file) => !file.endsWith('.mjs')))
			new vm.Script(read(file), { filename: file });

		execFileSync(process.execPath, [ '--check', path.join(HERE, 'pictures.mjs') ], { stdio: 'pipe' });
	});

	test('the style is one', () => {
		for (const file of [ ...pages, ...tests, ...files(path.join(APP, 'htdocs'), '.css') ]) {
			read(file).split('\n').forEach((line, at) => {
				const place = `${path.relative(ROOT, file)}:${at + 1}`;

				assert.doesNotMatch(line, /^\t* +[^ *\t]/, `${place}: indented by blanks`);
				assert.doesNotMatch(line, /\s$/, `${place}: blanks at the end`);
				assert.doesNotMatch(line, /\bvar /, `${place}: var`);

				if (line.replace(/_\('.*'\)/, '').length > 160 && file.endsWith('js'))
					assert.fail(`${place}: longer than 160 characters`);
			});
			assert.match(read(file), /[^\n]\n$/, file);
		}
	});

	test('the pages use nothing but LuCI\'s own client', () => {
		const allowed = [ 'baseclass', 'dom', 'form', 'poll', 'rpc', 'uci', 'ui', 'view', 'tailover.check', 'tailover.options', 'tailover.timeline' ];

		for (const file of pages) {
			assert.match(read(file), /^'use strict';\n/);

			for (const [ , name ] of read(file).matchAll(/^'require ([a-z.]+)/gm))
				assert.ok(allowed.includes(name), `${file}: ${name}`);

			/* Text is never HTML here. */
			assert.doesNotMatch(read(file), /innerHTML|insertAdjacentHTML|document\.write|\beval\(|[^.]\bfetch\(|XMLHttpRequest/, file);
		}
	});

	test('the access file grants what the pages call, reading and writing apart', () => {
		const access = json('root/usr/share/rpcd/acl.d/luci-app-tailover.json')['luci-app-tailover'];
		const called = new Set();

		for (const file of pages)
			for (const [ , object, method ] of read(file).matchAll(/object: '([a-z]+)', method: '([a-z]+)'/g))
				called.add(`${object} ${method}`);

		const granted = [ access.read, access.write ].map((part) =>
			Object.entries(part.ubus).flatMap(([ object, methods ]) => methods.map((method) => `${object} ${method}`)));

		assert.deepEqual(granted[0].sort(), [ 'tailover history', 'tailover status' ]);
		assert.deepEqual([ ...granted[0], ...granted[1] ].sort(), [ ...called ].sort());
		assert.deepEqual([ access.read.uci, access.write.uci ], [ [ 'tailover' ], [ 'tailover' ] ]);
	});

	test('the menu leads to the pages, for those who may read', () => {
		const menu = json('root/usr/share/luci/menu.d/luci-app-tailover.json');

		for (const [ place, entry ] of Object.entries(menu)) {
			if (entry.action.type == 'view')
				assert.ok(fs.existsSync(path.join(APP, 'htdocs/luci-static/resources/view', entry.action.path + '.js')), place);
			else
				assert.deepEqual(entry.depends.acl, [ 'luci-app-tailover' ]);
		}
	});

	test('the template for translations has every text', () => {
		const wanted = template();

		if (process.env.UPDATE_DOCS)
			fs.writeFileSync(TEMPLATE, wanted);

		assert.equal(read(TEMPLATE), wanted, 'UPDATE_DOCS=1 make luci');

		for (const option of load('tailover.options').list)
			assert.ok(wanted.includes(`msgid ${JSON.stringify(option.help)}`), option.name);
	});

	test('the list of packages names no registry', () => {
		assert.doesNotMatch(read(path.join(HERE, 'package-lock.json')), /resolved|https?:\/\//);
	});

	test('the pictures are small, and each is in the page', () => {
		const folder = path.join(ROOT, 'docs/luci'), page = read(path.join(ROOT, 'docs/luci.md'));
		const pictures = fs.readdirSync(folder);

		for (const name of pictures) {
			assert.ok(fs.statSync(path.join(folder, name)).size < 60000, name);
			assert.ok(page.includes(`luci/${name}`), `${name} is not in docs/luci.md`);
		}

		for (const [ , name ] of page.matchAll(/\(luci\/([a-z0-9-]+\.png)\)/g))
			assert.ok(pictures.includes(name), name);
	});
}
