/*
 * A double, for tests only, of the part of LuCI's client API that luci-app-tailover and its tests use. It is no
 * LuCI: what is not listed here is not there.
 *
 *   L           require, env, resource, url, hasViewPermission, toArray
 *   E           (tag, attributes, children): text as HTML when it is a string, as text when it is in an array
 *   baseclass   extend
 *   dom         content, append, findClassInstance, callClassMethod
 *   poll        add, remove, active, start, stop
 *   rpc         declare { object, method, params, expect, reject }, getStatusText
 *   uci         load, get, set, unset, save
 *   ui          showModal, hideModal, createHandlerFn, instantiateView, changes.apply
 *   view        extend with load, render, handleSave, handleSaveApply, handleReset
 *   form        Map (findElement), NamedSection (tab, taboption, formvalue), Value, Flag, ListValue, MultiValue, DynamicList
 *               with map, section, cbid, title, description, default, placeholder, optional, rmempty, load, validate, isValid,
 *               getValidationError, formvalue, value
 *
 * The same tests run on the real client when they are given a tree of openwrt/luci, which is how this double is
 * checked: LUCI=/path/to/luci make luci. tests/luci/README.md has the rest.
 */

'use strict';

(() => {

/* Objects by their class, as far as `extend` needs it. */

class Base {
	static extend(members) {
		const Parent = this;
		const Child = class extends Parent {};

		Object.assign(Child.prototype, members);
		return Child;
	}

	constructor(...args) {
		this.__init__(...args);
	}

	__init__() {}
}

/* DOM */

const instances = new WeakMap();

const dom = {
	elem: (thing) => thing != null && typeof(thing) == 'object' && 'nodeType' in thing,

	append(node, children) {
		if (Array.isArray(children)) {
			for (const child of children)
				if (dom.elem(child))
					node.appendChild(child);
				else if (child != null)
					node.appendChild(document.createTextNode(String(child)));
		}
		else if (dom.elem(children)) {
			node.appendChild(children);
		}
		else if (children != null) {
			node.innerHTML = String(children);
		}

		return node.lastChild;
	},

	content(node, children) {
		node.replaceChildren();
		return dom.append(node, children);
	},

	create(tag, attributes, children) {
		if (Array.isArray(attributes) || typeof(attributes) != 'object' || dom.elem(attributes))
			return dom.create(tag, {}, attributes);

		const element = document.createElement(tag);

		for (const [ name, value ] of Object.entries(attributes || {})) {
			if (typeof(value) == 'function')
				element.addEventListener(name, value);
			else if (value != null)
				element.setAttribute(name, value);
		}

		dom.append(element, children);
		return element;
	},

	bindClassInstance: (node, instance) => instances.set(node, instance),
	findClassInstance: (node) => node && (instances.get(node) || dom.findClassInstance(node.parentElement)),

	callClassMethod(node, method, ...args) {
		const instance = dom.findClassInstance(node);
		return instance && typeof(instance[method]) == 'function' ? instance[method](...args) : null;
	}
};

const E = (...args) => dom.create(...args);

/* Polling: a tick each second */

const poll = {
	queue: [],
	timer: null,
	tick: 0,

	add(fn, interval) {
		poll.queue.push({ fn: fn, interval: interval || L.env.pollinterval, idle: true });
		return true;
	},

	remove(fn) {
		poll.queue = poll.queue.filter((entry) => entry.fn != fn);
		return true;
	},

	step() {
		for (const entry of poll.queue) {
			if (poll.tick % entry.interval != 0 || !entry.idle)
				continue;

			entry.idle = false;
			Promise.resolve(entry.fn()).catch((e) => console.error(e)).finally(() => { entry.idle = true; });
		}

		poll.tick++;
	},

	active: () => poll.timer != null,

	start() {
		poll.timer = poll.timer || window.setInterval(poll.step, 1000);
		poll.step();
	},

	stop() {
		window.clearInterval(poll.timer);
		poll.timer = null;
	}
};

/* Calls over ubus */

const STATUS = [
	'Command OK', 'Invalid command', 'Invalid argument', 'Method not found', 'Resource not found', 'No data received',
	'Permission denied', 'Request timeout', 'Not supported', 'Unspecified error', 'Connection lost'
];

let requests = 0;

const rpc = {
	getStatusText: (code) => STATUS[code] || 'Unknown error code',

	declare(options) {
		return async(...args) => {
			const params = {};
			const where = '%s/%s'.format(options.object, options.method);

			(options.params || []).forEach((name, at) => { params[name] = args[at]; });

			const response = await fetch('%s%s.%s'.format(L.env.ubuspath, options.object, options.method), {
				method: 'POST',
				body: JSON.stringify({
					jsonrpc: '2.0', id: ++requests, method: 'call',
					params: [ L.env.sessionid, options.object, options.method, params ]
				})
			});

			if (!response.ok)
				throw new Error('RPC call to %s failed with HTTP error %d'.format(where, response.status));

			const message = await response.json();

			if (message.error)
				throw new Error('RPC call to %s failed with error %d: %s'
					.format(where, message.error.code, message.error.message));

			const [ code, data ] = message.result;

			if (options.reject && code != 0)
				throw new Error('RPC call to %s failed with ubus code %d: %s'.format(where, code, rpc.getStatusText(code)));

			let result = data === undefined ? code : data;

			for (const key in options.expect || {}) {
				const expected = options.expect[key];

				result = result != null && key != '' ? result[key] : result;

				if (result == null || Object.prototype.toString.call(result) != Object.prototype.toString.call(expected))
					result = expected;
			}

			return result;
		};
	}
};

/* Settings */

const uci = {
	values: {},
	changed: {},

	callGet: rpc.declare({ object: 'uci', method: 'get', params: [ 'config' ], expect: { values: {} }, reject: true }),
	callSet: rpc.declare({ object: 'uci', method: 'set', params: [ 'config', 'section', 'values' ], reject: true }),
	callDelete: rpc.declare({ object: 'uci', method: 'delete', params: [ 'config', 'section', 'options' ], reject: true }),

	async load(config) {
		uci.values[config] = uci.values[config] || await uci.callGet(config);
	},

	change(config, section, option, value) {
		const changed = uci.changed[config] = uci.changed[config] || {};

		changed[section] = Object.assign(changed[section] || {}, { [option]: value });
	},

	get(config, section, option) {
		const changed = (uci.changed[config] || {})[section] || {};

		return option in changed ? changed[option] : ((uci.values[config] || {})[section] || {})[option];
	},

	set: (config, section, option, value) => uci.change(config, section, option, value),

	unset(config, section, option) {
		if (uci.get(config, section, option) != null)
			uci.change(config, section, option, undefined);
	},

	async save() {
		const all = uci.changed;

		uci.changed = {};

		for (const config in all) {
			for (const section in all[config]) {
				const values = all[config][section];
				const gone = Object.keys(values).filter((option) => values[option] === undefined);

				if (gone.length)
					await uci.callDelete(config, section, gone);

				if (gone.length < Object.keys(values).length)
					await uci.callSet(config, section, values);
			}

			uci.values[config] = await uci.callGet(config);
		}
	}
};

/* Dialogs */

const ui = {
	overlay() {
		let overlay = document.getElementById('modal_overlay');

		if (!overlay) {
			overlay = E('div', { id: 'modal_overlay', tabindex: -1 }, [ E('div', { 'class': 'modal', role: 'dialog' }) ]);
			document.body.appendChild(overlay);
		}

		return overlay;
	},

	showModal(title, children) {
		const dialog = ui.overlay().firstElementChild;

		dom.content(dialog, [ E('h4', {}, title) ]);

		if (Array.isArray(children) || dom.elem(children))
			dom.append(dialog, children);

		document.body.classList.add('modal-overlay-active');
		return dialog;
	},

	hideModal() {
		document.body.classList.remove('modal-overlay-active');
	},

	createHandlerFn(self, handler, ...args) {
		const fn = typeof(handler) == 'string' ? self[handler] : handler;

		return (event) => {
			const target = event.currentTarget;

			target.classList.add('spinning');
			target.disabled = true;
			Promise.resolve(fn.call(self, ...args, event)).finally(() => {
				target.classList.remove('spinning');
				target.disabled = false;
			});
		};
	},

	changes: {
		async apply(checked) {
			ui.showModal('', [ E('p', { 'class': 'spinning' }, [ 'Starting configuration apply…' ]) ]);

			const path = checked ? '/cgi-bin/luci/admin/uci/apply_rollback' : '/cgi-bin/luci/admin/uci/apply_unchecked';
			const response = await fetch(path, { method: 'POST' });

			ui.showModal('', [ E('p', {}, [ response.ok ? 'Configuration changes applied.' : 'Apply request failed.' ]) ]);
		}
	},

	async instantiateView(path) {
		await loaded;
		await L.require('view.' + path.replace(/\//g, '.'));
	}
};

/* Views */

class View extends Base {
	__init__() {
		const place = document.getElementById('view');

		Promise.resolve(this.load())
			.then((data) => this.render(data))
			.then((nodes) => {
				dom.content(place, nodes);
				place.appendChild(this.addFooter());
				poll.start();
			})
			.catch((e) => {
				dom.content(place, [ E('div', { 'class': 'alert-message error' }, [ e.message ]) ]);
				console.error(e);
			});
	}

	load() {}

	maps() {
		return [ ...document.querySelectorAll('#maincontent .cbi-map') ].map((map) => dom.findClassInstance(map))
			.filter((map) => map instanceof Map_);
	}

	handleSave() {
		return Promise.all(this.maps().map((map) => map.save()));
	}

	handleSaveApply(event, mode) {
		return this.handleSave(event).then(() => ui.changes.apply(mode == '0'));
	}

	handleReset() {
		return Promise.all(this.maps().map((map) => map.reset()));
	}

	addFooter() {
		const maps = this.maps();
		const readonly = maps.length ? maps.every((map) => map.readonly) : !L.hasViewPermission();
		const button = (kind, title, handler, ...args) => E('button', {
			'class': 'btn cbi-button cbi-button-' + kind, 'disabled': readonly ? '' : null,
			'click': ui.createHandlerFn(this, handler, ...args)
		}, [ title ]);

		if (!this.handleSave && !this.handleSaveApply && !this.handleReset)
			return document.createDocumentFragment();

		const apply = (event) => this.handleSaveApply(event, '0');

		return E('div', { 'class': 'cbi-page-actions' }, [
			button('apply', 'Save & Apply', apply), ' ', button('save', 'Save', 'handleSave'), ' ',
			button('reset', 'Reset', 'handleReset')
		]);
	}
}

/* Forms */

class Map_ extends Base {
	__init__(config, title, description) {
		Object.assign(this, { config, title, description, sections: [], readonly: null });
	}

	section(Section, ...args) {
		const section = new Section(this, ...args);

		this.sections.push(section);
		return section;
	}

	async load() {
		const access = rpc.declare({
			object: 'session', method: 'access', params: [ 'scope', 'object', 'function' ], expect: { access: true }
		});

		this.readonly = await access('uci', this.config, 'write') === false ? true : null;
		await uci.load(this.config);
	}

	async render() {
		await this.load();
		this.root = E('div', { 'id': 'cbi-' + this.config, 'class': 'cbi-map' });
		dom.bindClassInstance(this.root, this);
		return this.reset();
	}

	reset() {
		dom.content(this.root, [
			E('h2', { name: 'content' }, this.title), E('div', { 'class': 'cbi-map-descr' }, this.description),
			...this.sections.map((section) => section.render())
		]);
		return this.root;
	}

	findElement(name, value) {
		return this.root ? this.root.querySelector('[%s="%s"]'.format(name, value)) : null;
	}

	async save() {
		try {
			for (const section of this.sections)
				for (const option of section.options)
					option.parse(section.name);

			await uci.save();
		}
		catch (e) {
			ui.showModal('Save error', [
				E('p', {}, [ 'An error occurred while saving the form:' ]), E('p', {}, [ E('em', {}, [ e.message ]) ]),
				E('div', { 'class': 'right' }, [ E('button', { 'class': 'cbi-button', 'click': ui.hideModal }, [ 'Dismiss' ]) ])
			]);
			throw e;
		}

		this.reset();
	}
}

class NamedSection extends Base {
	__init__(map, name, type) {
		Object.assign(this, { map, name, type, tabs: [], options: [] });
	}

	tab(name, title) {
		this.tabs.push({ name, title });
	}

	taboption(tab, Option, name, title, description) {
		const option = new Option(this, name, title, description);

		option.tab = tab;
		this.options.push(option);
		return option;
	}

	formvalue(section_id, name) {
		const option = this.options.find((option) => option.option == name);
		return option ? option.formvalue(section_id) : null;
	}

	render() {
		const panes = this.tabs.map((tab) => E('div', { 'data-tab': tab.name }, this.options
			.filter((option) => option.tab == tab.name).map((option) => option.render(this.name))));
		const show = (name) => {
			panes.forEach((pane) => pane.setAttribute('data-tab-active', pane.dataset.tab == name));
			menu.querySelectorAll('li').forEach((entry) =>
				entry.setAttribute('class', entry.dataset.tab == name ? 'cbi-tab' : 'cbi-tab-disabled'));
		};
		const menu = E('ul', { 'class': 'cbi-tabmenu' }, this.tabs.map((tab) =>
			E('li', { 'data-tab': tab.name }, [ E('a', { 'href': '#', 'click': (event) => {
				event.preventDefault();
				show(tab.name);
			} }, [ tab.title ]) ])));

		show(this.tabs[0].name);
		return E('div', { 'class': 'cbi-section' }, [
			menu, E('div', { 'class': 'cbi-section-node cbi-section-node-tabbed' }, panes)
		]);
	}
}

class Value extends Base {
	__init__(section, option, title, description) {
		Object.assign(this, { map: section.map, section, option, title, description, choices: [], default: null, error: null });
	}

	value(key, label) {
		this.choices.push([ String(key), String(label == null ? key : label) ]);
	}

	load(section_id) {
		return uci.get(this.section.map.config, section_id, this.option);
	}

	validate() {
		return true;
	}

	cbid(section_id) {
		return 'cbid.%s.%s.%s'.format(this.section.map.config, section_id, this.option);
	}

	formvalue() {
		return this.widget ? this.widget.getValue() : null;
	}

	isValid() {
		return this.error == null;
	}

	getValidationError() {
		return this.error || '';
	}

	parse(section_id) {
		if (!this.isValid(section_id))
			throw new TypeError('Option "%s" contains an invalid input value. %s'
				.format(this.title, this.getValidationError(section_id)));

		const config = this.section.map.config, value = this.formvalue(section_id);

		if (value == null || value == '' || (Array.isArray(value) && !value.length))
			uci.unset(config, section_id, this.option);
		else if (JSON.stringify(value) != JSON.stringify(uci.get(config, section_id, this.option)))
			uci.set(config, section_id, this.option, value);
	}

	/* Judges what is typed when a key is let go or the field is left. */
	judge(section_id, input) {
		const judge = () => {
			const verdict = input.value === '' ? true : this.validate(section_id, input.value);

			this.error = verdict === true ? null : verdict;
			input.classList.toggle('cbi-input-invalid', this.error != null);

			if (this.error != null)
				input.setAttribute('data-tooltip', this.error);
			else
				input.removeAttribute('data-tooltip');
		};

		input.addEventListener('keyup', judge);
		input.addEventListener('blur', judge);
	}

	input(section_id, value) {
		const input = E('input', {
			'id': 'widget.' + this.cbid(section_id), 'type': 'text', 'class': 'cbi-input-text', 'value': value,
			'placeholder': this.placeholder, 'disabled': this.section.map.readonly ? '' : null
		});

		this.judge(section_id, input);
		return input;
	}

	/* The element, and how its value is read and set. */
	build(section_id, value) {
		const input = this.input(section_id, Array.isArray(value) ? value.join(' ') : value);

		return {
			node: E('div', {}, [ input ]), getValue: () => input.value, setValue: (text) => { input.value = text; }
		};
	}

	render(section_id) {
		const value = this.load(section_id);

		this.error = null;
		this.widget = this.build(section_id, value == null ? this.default : value);
		this.widget.node.setAttribute('id', this.cbid(section_id));
		dom.bindClassInstance(this.widget.node, this.widget);

		return E('div', { 'class': 'cbi-value', 'data-name': this.option, 'data-field': this.cbid(section_id) }, [
			E('label', { 'class': 'cbi-value-title', 'for': 'widget.' + this.cbid(section_id) }, this.title),
			E('div', { 'class': 'cbi-value-field' }, [
				this.widget.node, E('div', { 'class': 'cbi-value-description' }, this.description)
			])
		]);
	}
}

class Flag extends Value {
	build(section_id, value) {
		const input = E('input', {
			'id': 'widget.' + this.cbid(section_id), 'type': 'checkbox', 'disabled': this.section.map.readonly ? '' : null
		});

		input.checked = value == '1';
		return {
			node: E('div', { 'class': 'cbi-checkbox' }, [ input ]), getValue: () => input.checked ? '1' : '0',
			setValue: (text) => { input.checked = text == '1'; }
		};
	}

	parse(section_id) {
		const config = this.section.map.config, value = this.formvalue(section_id);

		if (value == this.default && (this.optional || this.rmempty))
			uci.unset(config, section_id, this.option);
		else
			uci.set(config, section_id, this.option, value);
	}
}

class ListValue extends Value {
	build(section_id, value) {
		const select = E('select', {
			'id': 'widget.' + this.cbid(section_id), 'class': 'cbi-input-select',
			'disabled': this.section.map.readonly ? '' : null
		}, [
			E('option', { 'value': '' }, [ this.placeholder || '-- Please choose --' ]),
			...this.choices.map(([ key, label ]) => E('option', { 'value': key }, [ label ]))
		]);

		select.value = value == null ? '' : value;
		return {
			node: E('div', {}, [ select ]), getValue: () => select.value, setValue: (text) => { select.value = text; }
		};
	}
}

class MultiValue extends Value {
	build(section_id, value) {
		const chosen = L.toArray(value);
		const boxes = this.choices.map(([ key ]) => E('input', {
			'type': 'checkbox', 'value': key, 'disabled': this.section.map.readonly ? '' : null
		}));
		const setValue = (values) => boxes.forEach((box) => { box.checked = L.toArray(values).includes(box.value); });

		setValue(chosen);
		return {
			node: E('div', { 'class': 'cbi-dropdown' }, boxes.map((box, at) => E('label', {}, [ box, ' ', this.choices[at][1], ' ' ]))),
			getValue: () => boxes.filter((box) => box.checked).map((box) => box.value), setValue: setValue
		};
	}
}

class DynamicList extends Value {
	/* As in LuCI, what is typed and not added yet does not count. */
	isValid() {
		return true;
	}

	build(section_id, value) {
		const input = this.input(section_id, null);
		const list = E('div', { 'class': 'cbi-dynlist' }, [
			E('div', { 'class': 'add-item control-group' }, [ input, E('div', {
				'class': 'btn cbi-button cbi-button-add', 'click': () => take()
			}, [ '+' ]) ])
		]);
		const values = () => [ ...list.querySelectorAll('.item > input') ].map((item) => item.value);
		const add = (text) => {
			const item = E('div', { 'class': 'item', 'tabindex': 0, 'click': () => {
				if (!this.section.map.readonly)
					item.remove();
			} }, [ E('span', {}, [ text ]), E('input', { 'type': 'hidden', 'value': text }) ]);

			if (!values().includes(text))
				list.insertBefore(item, list.lastElementChild);
		};
		const take = () => {
			if (input.value.length && !input.classList.contains('cbi-input-invalid')) {
				add(input.value);
				input.value = '';
			}
		};

		input.addEventListener('keydown', (event) => {
			if (event.key == 'Enter')
				take();
		});

		L.toArray(value).forEach(add);
		return {
			node: list,
			getValue: () => values().concat(input.value.trim() && !this.error ? [ input.value ] : []),
			setValue: (texts) => {
				list.querySelectorAll('.item').forEach((item) => item.remove());
				L.toArray(texts).forEach(add);
			}
		};
	}
}

/* The loader */

const builtin = {
	baseclass: Base, dom, poll, rpc, uci, ui, view: View,
	form: { Map: Map_, NamedSection, Value, Flag, ListValue, MultiValue, DynamicList }
};
const modules = {};
const loaded = new Promise((resolve) => document.addEventListener('DOMContentLoaded', resolve));

class LuCI {
	constructor(env) {
		this.env = env;
	}

	require(name) {
		if (builtin[name])
			return Promise.resolve(builtin[name]);

		modules[name] = modules[name] || this.compile(name);
		return modules[name];
	}

	async compile(name) {
		const response = await fetch(this.resource(name.replace(/\./g, '/') + '.js'));

		if (!response.ok)
			throw new Error('%s: HTTP error %d'.format(name, response.status));

		const source = await response.text();
		const names = [], things = [];

		for (const [ , what, as ] of source.matchAll(/^'require ([a-z.]+)(?: as ([a-z]+))?';$/gm)) {
			names.push(as || what.replace(/\./g, '_'));
			things.push(await this.require(what));
		}

		const Class = new Function('window', 'document', 'L', ...names, source + '\n//# sourceURL=' + name)(
			window, document, this, ...things);

		return new Class();
	}

	resource(path) {
		return '%s/%s'.format(this.env.resource, path);
	}

	url(...parts) {
		return '%s/%s'.format(this.env.scriptname, parts.join('/'));
	}

	toArray(value) {
		if (value == null)
			return [];

		return Array.isArray(value) ? value : String(value).split(/\s+/).filter((word) => word !== '');
	}

	hasViewPermission() {
		return this.env.nodespec.satisfied ? !this.env.nodespec.readonly : null;
	}
}

window.LuCI = LuCI;
window.E = E;

})();
