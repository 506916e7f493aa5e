// Loads a module of the app as LuCI does, without a browser.

import fs from 'node:fs';
import path from 'node:path';
import vm from 'node:vm';

import { ROOT } from './world.mjs';

export const APP = path.join(ROOT, 'openwrt/applications/luci-app-tailover');
const RESOURCES = path.join(APP, 'htdocs/luci-static/resources');
const DOUBLE = path.join(ROOT, 'tests/luci/double/resources');

const context = vm.createContext({ window: {}, TextEncoder });
vm.runInContext(fs.readFileSync(path.join(DOUBLE, 'cbi.js'), 'utf8'), context);
context._ = context.window._;
context.baseclass = { extend: (members) => members };

/** `tailover.check` gives what tailover/check.js returns. */
export function load(name) {
	const source = fs.readFileSync(path.join(RESOURCES, name.replace(/\./g, '/') + '.js'), 'utf8');

	return vm.runInContext('(() => {' + source + '\n})()', context, { filename: name });
}
