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
		this.pages = new Map();
	}

	/** A page for each device, used again by each test: a new one takes half a second of the processor. */
	async page(device) {
		if (!this.pages.has(device)) {
			const context = await this.chromium.newContext({ ...device, timezoneId: 'UTC' });
			const page = await context.newPage();

			page.setDefaultTimeout(20000);
			page.on('console', (message) => {
				if (message.type() == 'error' || message.type() == 'warning')
					page.errors.push(message.text());
			});
			page.on('pageerror', (error) => page.errors.push(String(error)));
			this.pages.set(device, page);
		}

		return this.pages.get(device);
	}

	/** Does `body` with a view; `errors` on the page has what it complains of, and nothing may be left at the end. */
	async with(view, { access = 'write', scheme = 'light', device = DESKTOP }, body) {
		const page = await this.page(device);
		let good = false;

		page.errors = [];

		try {
			await page.emulateMedia({ colorScheme: scheme });
			await page.goto(this.world.url(view, access));
			await page.locator('#maincontent .cbi-map').first().waitFor();
			await body(page);
			await this.inOrder(page);
			/* LuCI remembers the tab that was open. And the page polls no more. */
			await page.evaluate(() => window.sessionStorage.clear());
			await page.goto('about:blank');
			good = true;
		}
		finally {
			if (!good) {
				this.pages.delete(device);
				await page.context().close();
			}
		}
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

	async end() {
		await this.chromium.close();
	}
}

/** The text of an element once it contains `text`. */
export async function shows(page, selector, text) {
	await page.locator(selector, { hasText: text }).first().waitFor();
}
