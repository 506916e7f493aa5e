'use strict';
'require baseclass';

/*
 * What the daemon takes for each kind of option, and its words where it does not: src/config/options.rs,
 * values.rs and check_together in mod.rs. A test compares the two (tests/luci/settings.test.mjs).
 */

const SWITCHES = {
	1: '1', on: '1', yes: '1', true: '1', enabled: '1',
	0: '0', off: '0', no: '0', false: '0', disabled: '0'
};
const LEVELS = [ 'error', 'warn', 'info', 'debug', 'trace' ];
const CURES = [ 'steer', 'nudge', 'renew', 'mend', 'restart' ];

const SECONDS = /^[0-9]+(\.[0-9]{1,3})?$/;
const DECIMAL = /^[0-9]+$/;
const HEXADECIMAL = /^0x[0-9a-fA-F]+$/;
const SERVICE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
const INTERFACE = /^[!-.0-~]{1,64}$/;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
const LABEL = /^(?!-)[A-Za-z0-9_-]{1,63}$/;
const GROUP = /^[0-9a-fA-F]{1,4}$/;
const OCTET = /^(0|[1-9][0-9]{0,2})$/;
const GRAPHIC = /^[!-~]*$/;

function bytes(text) {
	return new TextEncoder().encode(text).length;
}

/* A whole number of 32 bits, or null. */
function integer(text) {
	if (!DECIMAL.test(text) && !HEXADECIMAL.test(text))
		return null;

	const value = Number(text);
	return value <= 0xffffffff ? value : null;
}

function mark(text) {
	const at = text.indexOf('/');
	const value = integer(at < 0 ? '' : text.slice(0, at));
	const mask = integer(at < 0 ? '' : text.slice(at + 1));

	if (!value || mask == null || (value & ~mask) !== 0)
		return null;

	return { value: value, mask: mask };
}

function path(text, most) {
	return text.charAt(0) == '/' && bytes(text) <= most && !CONTROL.test(text);
}

/* The four octets, or null. */
function ipv4(text) {
	const octets = text.split('.');

	if (octets.length != 4 || !octets.every((octet) => OCTET.test(octet) && Number(octet) <= 255))
		return null;

	return octets.map(Number);
}

/* The groups that a part of an IPv6 address has, or null. */
function groups(text, last) {
	if (text === '')
		return [];

	const found = [];
	const parts = text.split(':');

	for (let i = 0; i < parts.length; i++) {
		const octets = last && i == parts.length - 1 ? ipv4(parts[i]) : null;

		if (octets)
			found.push(octets[0] * 256 + octets[1], octets[2] * 256 + octets[3]);
		else if (GROUP.test(parts[i]))
			found.push(parseInt(parts[i], 16));
		else
			return null;
	}

	return found;
}

function ipv6(text) {
	const halves = text.split('::');
	const head = groups(halves[0], halves.length == 1);
	const tail = halves.length == 2 ? groups(halves[1], true) : [];

	if (halves.length > 2 || !head || !tail)
		return null;

	const missing = 8 - head.length - tail.length;

	if (halves.length == 1 ? missing != 0 : missing < 1)
		return null;

	return head.concat(tail);
}

/* A name, an IPv4 address, or an IPv6 address in brackets; not the unspecified ones. */
function host(text) {
	const bracketed = text.charAt(0) == '[' && text.length > 1 && text.slice(-1) == ']';
	const address = bracketed ? ipv6(text.slice(1, -1)) : ipv4(text);

	if (bracketed || address)
		return address != null && address.some((part) => part != 0);

	const name = text.slice(-1) == '.' ? text.slice(0, -1) : text;
	const labels = name.split('.');

	return name.length <= 253 &&
		labels.every((label) => LABEL.test(label) && label.slice(-1) != '-') &&
		!DECIMAL.test(labels[labels.length - 1]);
}

function port(text) {
	return DECIMAL.test(text) && Number(text) >= 1 && Number(text) <= 65535;
}

/* Host and port at the last colon that is not inside brackets; the port is null where there is none. */
function split(text) {
	const at = text.lastIndexOf(':');

	if (at < 0 || text.indexOf(']', at) >= 0)
		return { host: text, port: null };

	return { host: text.slice(0, at), port: text.slice(at + 1) };
}

function url(text) {
	const scheme = [ 'http://', 'https://' ].find((start) => text.indexOf(start) == 0);

	if (!scheme)
		return false;

	const rest = text.slice(scheme.length);

	if (!GRAPHIC.test(rest) || rest.indexOf('#') >= 0 || rest.indexOf('@') >= 0)
		return false;

	const end = rest.search(/[/?]/);
	const authority = split(end < 0 ? rest : rest.slice(0, end));

	return (authority.port == null || port(authority.port)) && host(authority.host);
}

function target(text) {
	if (text == 'derp')
		return true;

	if (text.indexOf('tcp:') == 0) {
		const end = split(text.slice(4));
		return end.port != null && port(end.port) && host(end.host);
	}

	const at = text.indexOf(':');
	const inner = text.slice(at + 1);

	return url(at >= 0 && inner.indexOf(text.slice(0, at) + '://') == 0 ? inner : text);
}

/* Whether the daemon takes one value of each kind. */
const FITS = {
	switch: (option, text) => SWITCHES.hasOwnProperty(text),
	level: (option, text) => LEVELS.indexOf(text) >= 0,
	seconds: (option, text) => SECONDS.test(text) && Number(text) >= option.min && Number(text) <= option.max,
	number: (option, text) => {
		const value = integer(text);
		return value != null && value >= option.min && value <= option.max;
	},
	mark: (option, text) => mark(text) != null,
	mask: (option, text) => (integer(text) || 0) != 0,
	service: (option, text) => SERVICE.test(text) && text.charAt(0) != '.',
	socket: (option, text) => path(text, option.max),
	path: (option, text) => path(text, option.max),
	uplinks: (option, text) => INTERFACE.test(text),
	targets: (option, text) => target(text),
	external_ips: (option, text) => text == 'off' || text == 'stun' || url(text),
	cures: (option, text) => CURES.indexOf(text) >= 0
};

function hex(value) {
	return '0x' + (value >>> 0).toString(16);
}

/* The values that count: those given, and the default where none is given. */
function inForce(option, values) {
	return values.length ? values : option.default;
}

return baseclass.extend({
	/* The values of an option as the form or UCI has it: a string, a list, or nothing. */
	values: function(option, value) {
		if (Array.isArray(value))
			return value.filter((text) => text !== '');

		if (value == null || value === '')
			return [];

		return option.list ? String(value).split(/\s+/).filter((text) => text !== '') : [ String(value) ];
	},

	/* '1' or '0' for a word that the daemon takes for a switch, else null. */
	onOff: function(text) {
		return SWITCHES.hasOwnProperty(text) ? SWITCHES[text] : null;
	},

	levels: LEVELS,
	cures: CURES,

	fits: function(option, text) {
		return FITS[option.kind](option, text);
	},

	/*
	 * What the daemon would say of a file with these values: { name, value, allowed }, in its order.
	 * `given` maps names of options to lists of values; `options` is the list of tailover.options.
	 */
	problems: function(options, given) {
		const found = [];
		const good = {};

		for (const option of options) {
			const values = given[option.name] || [];
			const fitting = values.filter((text) => this.fits(option, text));

			for (const text of values)
				if (!this.fits(option, text))
					found.push({ name: option.name, value: text, allowed: option.allowed });

			good[option.name] = inForce(option, option.list ? fitting : fitting.slice(-1));
		}

		/* Of two options that do not go together the last one given is named. */
		const blame = (first, second, allowed) => {
			const name = [ second, first ].find((name) => (given[name] || []).length);
			const value = name ? given[name][given[name].length - 1] : null;

			if (name)
				found.push({ name: name, value: value, allowed: allowed });
		};

		const min = Number(good.restart_min[0]), max = Number(good.restart_max[0]);

		if (max < min)
			blame('restart_min', 'restart_max',
				_('restart_min (%s) not above restart_max (%s)').format(min, max));

		const own = mark(good.mark[0]).mask, theirs = integer(good.mmx_mask[0]);

		if ((own & theirs) !== 0)
			blame('mark', 'mmx_mask',
				_('no bit that is both in mmx_mask (%s) and in the mask of mark (%s)').format(hex(theirs), hex(own)));

		const addresses = given.external_ip || [];

		if (addresses.length > 1 && addresses.indexOf('off') >= 0)
			found.push({ name: 'external_ip', value: 'off', allowed: _('off alone, or the others without it') });

		return found;
	}
});
