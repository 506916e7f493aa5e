// The pictures of docs/luci.md: `make luci-pictures`. With LUCI=FOLDER they show LuCI's own client and theme.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

import { Browser, DESKTOP, PHONE, shows } from './browser.mjs';
import { recorded } from './status.test.mjs';
import { ROOT, World, enter } from './world.mjs';

enter();

const FOLDER = path.join(ROOT, 'docs/luci');
const LIMIT = 60000;
const STATUS = 'tailover/status', SETTINGS = 'tailover/settings';
const SMALL = { viewport: { width: 900, height: 600 } };
const NARROW = { ...PHONE, deviceScaleFactor: 1.25 };
const MODAL = '#modal_overlay .modal';

const world = new World(), browser = new Browser();

async function take(name, page, { whole = true } = {}) {
	const file = path.join(FOLDER, name + '.png');

	/* LuCI shows changed parts in a flash, and counts what it asks. */
	await page.addStyleTag({ content: '* { animation: none !important; transition: none !important; } #indicators { display: none; }' });
	await page.screenshot({ path: file, fullPage: whole });

	/* A palette of few colours is enough for text and lines. */
	for (const colours of [ 256, 64, 32 ]) {
		execFileSync('pngquant', [ '--force', '--ext', '.png', '--speed', '1', '--strip', String(colours), file ]);

		if (fs.statSync(file).size < LIMIT)
			break;
	}

	const { size } = fs.statSync(file);

	console.log(`luci: ${path.relative(ROOT, file)}, ${size} bytes`);

	if (size > LIMIT)
		throw new Error(`${name}: ${size} bytes, the limit is ${LIMIT}`);
}

/* One state of the page, as it was recorded. */
async function state(name, frame, options, body = async() => {}) {
	const { status, history } = recorded(frame);

	await world.steer({ frames: [ { status, history } ], would: [ 'steer IPv4' ] });
	await browser.with(STATUS, options, async(page) => {
		await shows(page, '#tailover-sentence', status.sentence);
		await body(page);
		await take(name, page, { whole: !await page.locator(MODAL).isVisible() });
	});
}

const press = (page, title) => page.locator('#tailover-buttons button', { hasText: title }).click();

await world.start();
await browser.start(world);

try {
	fs.mkdirSync(FOLDER, { recursive: true });

	for (const file of fs.readdirSync(FOLDER))
		fs.rmSync(path.join(FOLDER, file));

	await state('status-well', 'well', { device: SMALL });
	await state('status-well-dark', 'well', { device: SMALL, scheme: 'dark' });
	await state('status-phone', 'steered', { device: NARROW });
	await state('status-phone-dark', 'steered', { device: NARROW, scheme: 'dark' });
	await state('status-curing', 'curing', { device: SMALL });
	await state('status-portal', 'portal', { device: NARROW });
	await state('status-control-down', 'control-down', { device: SMALL, scheme: 'dark' });
	await state('status-drill', 'drill-2', { device: SMALL });
	await state('drill-dialog', 'well', { device: NARROW }, (page) => press(page, 'Drill'));
	await state('check-result', 'portal', { device: SMALL }, async(page) => {
		await press(page, 'Check');
		await page.locator(MODAL + ' button', { hasText: 'Check now' }).click();
		await shows(page, MODAL, 'the daemon would now');
		await page.locator(MODAL + ' .tailover-fault summary').first().click();
	});

	await world.steer({ lacks: [ 'history' ], drops: [ 'sentence', 'next', 'tailnet' ] });
	await browser.with(STATUS, { device: SMALL }, (page) => take('status-old', page));
	await world.steer({});
	await browser.with(STATUS, { device: NARROW, access: 'none' }, (page) => take('status-denied', page));
	await browser.with(STATUS, { device: NARROW, access: 'read' }, async(page) => {
		await shows(page, '#tailover-readonly', 'may look');
		await take('status-readonly', page);
	});
	await browser.with(SETTINGS, { device: SMALL }, (page) => take('settings', page));
	await browser.with(SETTINGS, { device: NARROW, scheme: 'dark' }, async(page) => {
		const hold = page.locator('.cbi-value[data-name="hold"] input[type="text"]').first();

		await hold.fill('100000');
		await hold.press('Tab');
		await page.locator('.cbi-page-actions .cbi-button-save').click();
		await shows(page, MODAL, 'hold:');
		page.errors.length = 0;
		await take('settings-refused', page, { whole: false });
	});
	await world.daemon.end();
	await browser.with(STATUS, { device: NARROW }, (page) => take('status-stopped', page));
}
finally {
	await browser.end();
	await world.end();
}
