// All tests of luci-app-tailover: `make luci`. `node --test-name-pattern=drill tests/luci/run.mjs` picks some.

import { after, before } from 'node:test';

import { Browser } from './browser.mjs';
import { World, enter } from './world.mjs';
import settings from './settings.test.mjs';
import source from './source.test.mjs';
import status from './status.test.mjs';

enter();

const world = new World(), browser = new Browser();

before(async() => {
	await world.start();
	await browser.start(world);
});

after(async() => {
	await browser.end();
	await world.end();
});

source();
settings(world, browser);
status(world, browser);
