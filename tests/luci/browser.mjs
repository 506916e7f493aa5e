// One Chromium for all tests, and what every page must keep: no error on the console, nothing to scroll sideways.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const PROGRAM = process.env.CHROMIUM || '/usr/bin/chromium';
const FLAGS = [
	'--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
	'--disable-component-update', '--disable-sync'
];

export const DESKTOP = { viewport: { width: 1200, height: 900 } };
export const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

export class Browser {
	async start(world) {
		this.world = world;
		this.chromium = await chromium.launch({ executablePath: PROGRAM, args: FLAGS });
	}

	/** Opens a page; `errors` on it has what the console and the page complain of. */
	async open(view, { access = 'write', scheme = 'light', device = DESKTOP, settled = true } = {}) {
		const context = await this.chromium.newContext({ ...device, colorScheme: scheme, timezoneId: 'UTC' });
		const page = await context.newPage();

		page.errors = [];
		page.on('console', (message) => {
			if (message.type() == 'error' || message.type() == 'warning')
				page.errors.push(message.text());
		});
		page.on('pageerror', (error) => page.errors.push(String(error)));
		page.setDefaultTimeout(20000);
		await page.goto(this.world.url(view, access));

		if (settled)
			await page.locator('#maincontent .cbi-map').first().waitFor();

		return page;
	}

	/** Closes a page that has to be in order. */
	async close(page) {
		await this.inOrder(page);
		await page.context().close();
	}

	async inOrder(page) {
		const { wide, width, screen } = await page.evaluate(() => ({
			width: document.documentElement.scrollWidth, screen: window.screen.width < 600 ? 360 : window.innerWidth,
			wide: [ ...document.querySelectorAll('#view *, .modal *') ]
				.filter((node) => !node.closest('svg') && node.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
				.slice(0, 3).map((node) => node.outerHTML.slice(0, 200))
		}));

		assert.ok(width <= screen, `scrolls sideways: ${width} of ${screen} pixels; ${wide.join('\n')}`);
		assert.deepEqual(page.errors, []);
	}

	/** Does `body` with a page, and closes it in order. */
	async with(view, options, body) {
		const page = await this.open(view, options);

		try {
			await body(page);
			await this.close(page);
		}
		finally {
			await page.context().close();
		}
	}

	async end() {
		await this.chromium.close();
	}
}

/** The text of an element once it contains `text`. */
export async function shows(page, selector, text) {
	await page.locator(selector, { hasText: text }).first().waitFor();
}
