'use strict';
'require form';
'require uci';
'require view';
'require tailover.check as check';
'require tailover.options as options';

/* The tab of each option; what is not named here is for experts. */
const GENERAL = [ 'enabled', 'log_level', 'uplink', 'metered', 'hold', 'cure', 'history' ];
const PROBES = [
	'target', 'external_ip', 'interval', 'other_interval', 'settle', 'probe_timeout', 'tcp_timeout',
	'tls_timeout', 'http_timeout', 'ca_file'
];

function tabOf(name) {
	if (GENERAL.indexOf(name) >= 0)
		return 'general';

	return PROBES.indexOf(name) >= 0 ? 'probes' : 'expert';
}

function widgetOf(option) {
	switch (option.kind) {
	case 'switch':
		return form.Flag;
	case 'level':
		return form.ListValue;
	case 'cures':
		return form.MultiValue;
	default:
		return option.list ? form.DynamicList : form.Value;
	}
}

/* The help, what is allowed, and the default; as text, because LuCI takes a description for HTML. */
function describe(option) {
	const standard = option.default.length ? option.default.join(', ') : _('empty');

	return '%h %h'.format(option.help, _('Allowed: %s. Default: %s.').format(option.allowed, standard));
}

/* What stands in the form now, for each option the values that would be saved. */
function given(section, section_id, name, value) {
	const all = {};

	for (const option of options.list) {
		const own = option.name == name ? value : section.formvalue(section_id, option.name);
		all[option.name] = check.values(option, own);
	}

	return all;
}

/* What is typed and not yet added to a list. LuCI drops it without a word where it is wrong. */
function pending(o, section_id) {
	const field = o.map.findElement('data-field', o.cbid(section_id));
	const input = field ? field.querySelector('.add-item > input[type="text"]') : null;

	return input ? input.value : '';
}

/* The daemon's words on an option, or null. */
function problem(o, option, section_id) {
	const all = given(o.section, section_id, option.name, o.formvalue(section_id));
	const typed = option.list ? pending(o, section_id) : '';
	const own = typed && !check.fits(option, typed)
		? { value: typed, allowed: option.allowed }
		: check.problems(options.list, all).find((found) => found.name == option.name);

	return own ? _('%s: \'%s\' is not allowed; allowed: %s').format(option.name, own.value, own.allowed) : null;
}

function add(section, option) {
	const o = section.taboption(tabOf(option.name), widgetOf(option), option.name, option.name, describe(option));

	o.optional = true;
	o.rmempty = true;

	switch (option.kind) {
	case 'switch':
		o.default = option.default[0];
		/* The file may have any of the daemon's words; an unknown one is shown as the default. */
		o.load = (section_id) => check.onOff(uci.get('tailover', section_id, option.name));
		return;
	case 'level':
		o.placeholder = _('%s (default)').format(option.default[0]);
		check.levels.forEach((word) => o.value(word, word));
		break;
	case 'cures':
		o.placeholder = _('all of them (default)');
		check.cures.forEach((word) => o.value(word, word));
		break;
	default:
		o.placeholder = option.default[0] || null;
	}

	/* A single value while it is typed; for a list, the one that is about to be added. */
	o.validate = function(section_id, value) {
		if (value == null || value === '' || Array.isArray(value))
			return true;

		if (option.kind == 'cures' || check.fits(option, value))
			return true;

		return _('allowed: %s').format(option.allowed);
	};

	/* All of the form when it is saved: what one option may be can hang on another. */
	const isValid = o.isValid, getValidationError = o.getValidationError;

	o.isValid = function(section_id) {
		return isValid.call(this, section_id) && problem(this, option, section_id) == null;
	};

	o.getValidationError = function(section_id) {
		return problem(this, option, section_id) || getValidationError.call(this, section_id);
	};
}

return view.extend({
	render: function() {
		const map = new form.Map('tailover', _('Tailover settings'),
			_('Nothing here needs an edit: an empty field has the default. Changes are taken at once, but for the sockets, mark, priority, table, protocol and state_dir, which change at the next start.'));
		const section = map.section(form.NamedSection, 'main', 'tailover');

		section.addremove = false;
		section.tab('general', _('General'));
		section.tab('probes', _('Probes'));
		section.tab('expert', _('Expert'));

		options.list.forEach((option) => add(section, option));

		return map.render();
	}
});
