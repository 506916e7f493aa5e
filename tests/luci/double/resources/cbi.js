/* A double, for tests only, of LuCI's cbi.js: translation and the formatting of strings. See luci.js. */

'use strict';

/* Without a catalogue every text is its own translation. */
window._ = (text) => text;

/* %s, %d, %f with a precision, %h (for HTML), %%; with a width and a leading 0. */
String.prototype.format = function(...values) {
	let at = 0;

	return this.replace(/%(0?)([0-9]*)(?:\.([0-9]+))?([sdfh%])/g, (whole, zero, width, precision, kind) => {
		if (kind == '%')
			return '%';

		const value = values[at++];
		let text = value == null ? '' : String(value);

		if (kind == 'd')
			text = String(Math.trunc(Number(value) || 0));
		else if (kind == 'f')
			text = (Number(value) || 0).toFixed(precision == '' || precision == null ? 6 : Number(precision));
		else if (kind == 'h')
			text = text.replace(/[<>&"']/g, (sign) => '&#%s;'.replace('%s', sign.charCodeAt(0)));

		return text.padStart(Number(width) || 0, zero || ' ');
	});
};
