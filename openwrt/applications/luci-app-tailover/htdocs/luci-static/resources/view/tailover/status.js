'use strict';
'require dom';
'require poll';
'require rpc';
'require ui';
'require view';
'require tailover.timeline as timeline';

/* Without `expect` and `reject`: a number is then ubus' own code of what went wrong. */
const callStatus = rpc.declare({ object: 'tailover', method: 'status' });
const callHistory = rpc.declare({ object: 'tailover', method: 'history' });
const callCheck = rpc.declare({ object: 'tailover', method: 'check' });
const callRecover = rpc.declare({ object: 'tailover', method: 'recover', params: [ 'force' ] });
const callDrill = rpc.declare({ object: 'tailover', method: 'drill', params: [ 'uplink', 'seconds' ] });
const callDrillStop = rpc.declare({ object: 'tailover', method: 'drill', params: [ 'stop' ] });

/* The history is long and changes seldom: it is asked for when something has ended, else this often. */
const HISTORY_EVERY = 60;

/* Seconds that an act is followed; as `tailover recover` and `tailover drill` do. */
const RECOVER_PATIENCE = 60;
const DRILL_PATIENCE = 240;

/* src/daemon/mod.rs */
const DRILL_STAY = 30;
const DRILL_STAY_MOST = 600;

const JSON_RPC_CODE = /error (-[0-9]+)/;
const TIMED_OUT = /timed? ?out/i;
const FIELDS = [ 'stage', 'sentence', 'uplinks', 'path', 'tailnet', 'faults', 'next' ];
const DIGITS = /^[0-9]{1,3}$/;

/* What failed, as ubus' code: 3 no method, 4 no object, 6 no right, 7 no answer in time; else text. */
function failure(e) {
	if (typeof(e) == 'number')
		return e;

	const text = String(e && e.message || e);
	const found = text.match(JSON_RPC_CODE);
	const codes = { '-32000': 4, '-32002': 6, '-32003': 7 };

	if (found && codes[found[1]])
		return codes[found[1]];

	return TIMED_OUT.test(text) ? 7 : text;
}

/* Gives what the daemon has answered, or throws what failed(). */
function ask(call, ...words) {
	return call(...words).then((answer) => {
		if (typeof(answer) == 'number' && answer != 0)
			throw answer;

		return answer || {};
	});
}

/* A sentence on what failed, and what to do about it. */
function failed(e, method) {
	const code = failure(e);

	switch (code) {
	case 4:
		return [
			_('tailover does not run.'),
			_('Start it under System, Startup, or by "service tailover start"; "logread -e tailover" tells why it ended.')
		];
	case 3:
		return [
			_('This tailover does not know "%s": it is older than this page.').format(method),
			_('Upgrade the package tailover to the version of luci-app-tailover.')
		];
	case 6:
		return [
			_('This login may not call "%s" of tailover.').format(method),
			_('Let an administrator grant it the access group luci-app-tailover, or log in as root.')
		];
	case 7:
		return [
			_('tailover did not answer in time.'),
			_('The router may be busy. If this stays, "service tailover restart" starts it anew.')
		];
	default:
		return [
			_('tailover cannot be asked: %s').format(typeof(code) == 'number' ? rpc.getStatusText(code) : code),
			_('Reload this page. If that does not help, see "logread -e tailover".')
		];
	}
}

function notice(kind, lines) {
	return E('div', { 'class': 'alert-message ' + kind }, lines.map((line) => E('p', {}, [ line ])));
}

function list(value) {
	return Array.isArray(value) ? value : [];
}

function words(value, otherwise) {
	return value == null || value === '' ? otherwise : String(value);
}

/* A span in its two largest units. */
function span(seconds) {
	const units = [ [ 86400, _('d') ], [ 3600, _('h') ], [ 60, _('min') ], [ 1, _('s') ] ];
	const parts = [];
	let rest = Math.round(seconds);

	for (const [ size, unit ] of units) {
		const count = Math.floor(rest / size);
		rest %= size;

		if (count > 0 || (size == 1 && !parts.length))
			parts.push('%d %s'.format(count, unit));
	}

	return parts.slice(0, 2).join(' ');
}

function ago(seconds) {
	return typeof(seconds) == 'number' ? _('%s ago').format(span(seconds)) : _('some time ago');
}

function line(title, ...content) {
	return E('div', { 'class': 'tailover-line' }, [ E('strong', {}, [ title + ': ' ]), ...content ]);
}

function verdict(way) {
	const word = words(way.verdict, 'unknown');
	const details = [];

	if (typeof(way.age) == 'number')
		details.push(ago(way.age));

	if (way.evidence)
		details.push(way.evidence);

	if (way.public)
		details.push('[%s]'.format(way.public));

	return [
		E('span', { 'class': 'tailover-verdict ' + (/^[a-z-]+$/.test(word) ? word : 'unknown') }, [ word ]),
		details.length ? E('div', { 'class': 'tailover-dim' }, [ details.join(', ') ]) : ''
	];
}

function flows(of) {
	if (!of)
		return _('not told');

	if (of.fresh > 0)
		return _('connected');

	return of.stale ? _('stale (still on %s)').format(of.stale) : _('not connected');
}

const FAMILIES = [ [ 'ipv4', 'IPv4' ], [ 'ipv6', 'IPv6' ] ];

function uplinkCard(uplink) {
	const marks = [ uplink.device ];

	if (uplink.metered)
		marks.push(_('metered'));

	if (uplink.vpn)
		marks.push(_('tunnel'));

	return E('div', { 'class': 'tailover-card' }, [
		E('h4', {}, [ words(uplink.name, '-'), ' ', E('span', { 'class': 'tailover-dim' }, [ '(%s)'.format(marks.join(', ')) ]) ]),
		...FAMILIES.filter(([ key ]) => uplink[key])
			.map(([ key, family ]) => line(family, ...verdict(uplink[key])))
	]);
}

function pathCard(state) {
	const paths = state.path || {}, steering = state.steering || {};
	const lines = FAMILIES.filter(([ key ]) => paths[key]).map(([ key, family ]) => {
		const path = paths[key];
		const by = path.uplink ? '%s (%s)'.format(path.uplink, path.device) : words(path.device, '-');
		const how = steering[key] && steering[key] == path.device ? _('steered by tailover') : _('by the main table');

		return line(family, '%s, %s. '.format(by, how), ...verdict(path));
	});

	return E('div', { 'class': 'tailover-card' }, [
		E('h4', {}, [ _('Path of the tailnet\'s packets') ]),
		...(lines.length ? lines : [ E('div', {}, [ _('The kernel has no way for them.') ]) ])
	]);
}

function tailnetCard(state) {
	const tailnet = state.tailnet || {};

	return E('div', { 'class': 'tailover-card' }, [
		E('h4', {}, [ _('Tailnet') ]),
		line('tailscaled', words(tailnet.api, _('not told')), tailnet.version ? ' (%s)'.format(tailnet.version) : ''),
		line(_('State'), words(tailnet.backend, _('not told'))),
		line(_('Control server'), flows(tailnet.control)),
		line(_('Relay'), words(tailnet.home_relay, ''), ' ', flows(tailnet.derp)),
		tailnet.lost && tailnet.lost.length ? line(_('Lost in the kernel'), tailnet.lost.join(', ')) : '',
		typeof(state.restarts_last_hour) == 'number'
			? line(_('Restarts in the last hour'),
				_('%d of %d at most').format(state.restarts_last_hour, state.restarts_per_hour))
			: ''
	]);
}

function faultBox(fault) {
	const evidence = list(fault.evidence);

	return E('div', { 'class': 'tailover-fault' }, [
		E('strong', {}, [ words(fault.id, '?') ]), ': ', words(fault.text, ''),
		fault.advice ? E('div', { 'class': 'tailover-line' }, [ E('strong', {}, [ _('What you can do') + ': ' ]), fault.advice ]) : '',
		evidence.length ? E('details', { 'data-key': words(fault.id, '?') }, [
			E('summary', {}, [ _('What was seen') ]),
			E('ul', {}, evidence.map((seen) => E('li', {}, [ seen ])))
		]) : ''
	]);
}

function cardsOf(state) {
	const uplinks = list(state.uplinks);

	return [
		E('h3', {}, [ _('Uplinks') ]),
		E('div', { 'class': 'tailover-row' }, uplinks.length
			? uplinks.map(uplinkCard)
			: [ E('em', {}, [ _('No uplink is known: no device has a default route.') ]) ]),
		E('div', { 'class': 'tailover-row' }, [ pathCard(state), tailnetCard(state) ])
	];
}

/* How the machine does, for the colour beside the sentence. */
function mood(state) {
	if (list(state.faults).some((fault) => fault.id != 'userspace-networking') || state.stage == 'resting')
		return 'ill';

	return state.stage == 'quiet' || state.stage == null ? 'well' : 'busy';
}

function nextOf(state) {
	const next = state.next || {};

	if (!next.what)
		return '';

	return typeof(next.in) == 'number'
		? _('Next, in %s: %s').format(span(next.in), next.what)
		: _('Next: %s').format(next.what);
}

function stateOf(state) {
	const missing = FIELDS.filter((field) => !(field in state));
	const warnings = list(state.warnings);

	return [
		missing.length ? notice('warning', [
			_('This tailover does not tell: %s. It is older than this page.').format(missing.join(', ')),
			_('Upgrade the package tailover to the version of luci-app-tailover.')
		]) : '',
		E('p', { 'class': 'tailover-sentence ' + mood(state), 'id': 'tailover-sentence' }, [ words(state.sentence, _('No sentence is told.')) ]),
		E('p', { 'id': 'tailover-next' }, [ nextOf(state) ]),
		...list(state.faults).map(faultBox),
		...warnings.map((text) => line(_('Note'), text))
	];
}

function kindOf(episode) {
	if (episode.drill)
		return 'drill';

	return episode.outcome == 'needs a person' ? 'person' : 'ended';
}

function stepsOf(episode) {
	const drill = episode.drill;
	const steps = list(episode.acts).map((act) => [ act.after || 0, '+%.1f s %s: %s'.format(act.after || 0, act.cure,
		words(act.result, act.ok == null ? _('under way') : '')) ]);

	if (drill && typeof(drill.tailnet) == 'number')
		steps.push([ drill.tailnet, _('+%.1f s the tailnet is well over %s').format(drill.tailnet, drill.by) ]);

	if (drill && typeof(drill.over) == 'number')
		steps.push([ drill.over, drill.cut ? _('+%.1f s cut short: %s').format(drill.over, drill.cut)
			: _('+%.1f s the rehearsal is over: going back').format(drill.over) ]);

	return steps.sort((a, b) => a[0] - b[0]).map((step) => E('div', {}, [ step[1] ]));
}

function titleOf(episode) {
	const seconds = episode.seconds || 0;
	const took = _('for %s').format(seconds < 60 ? '%.1f %s'.format(seconds, _('s')) : span(seconds));

	return '%s, %s: %s (%s)'.format(ago(episode.began_ago), took, words(episode.trigger, '-'), words(episode.outcome, _('under way')));
}

function episodeBox(episode) {
	/* Its age goes on, all else stays. */
	const key = JSON.stringify([ episode.trigger, episode.seconds, list(episode.acts).length ]);

	return E('details', { 'class': 'tailover-episode', 'data-key': key }, [
		E('summary', {}, [ titleOf(episode) ]),
		...list(episode.faults).map((fault) => E('div', {}, [ E('strong', {}, [ fault.id ]), ': ', fault.text ])),
		...stepsOf(episode),
		episode.drill ? E('div', {}, [ E('strong', {}, [ words(episode.drill.summary, '') ]) ]) : ''
	]);
}

/* Fills a node anew; what was unfolded in it stays so. */
function refresh(node, content) {
	const key = (details) => details.getAttribute('data-key');
	const open = [ ...node.querySelectorAll('details[open]') ].map(key);

	dom.content(node, content);
	node.querySelectorAll('details').forEach((details) => { details.open = open.indexOf(key(details)) >= 0; });
}

function button(title, style, handler, disabled) {
	return E('button', {
		'class': 'btn cbi-button ' + style, 'click': handler, 'disabled': disabled ? '' : null
	}, [ title ]);
}

function modal(title, content, buttons) {
	ui.showModal(title, [ E('div', { 'class': 'tailover-steps' }, content), E('div', { 'class': 'right' }, buttons) ]);
}

function closeButton() {
	return button(_('Close'), '', ui.hideModal);
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load: function() {
		return this.fetch();
	},

	/* What the daemon tells, or why it does not: { state, failure, history, historyFailure }. */
	fetch: function() {
		return ask(callStatus).then((state) => {
			const last = state.last || {};
			const ended = typeof(last.began_ago) == 'number' && typeof(state.uptime) == 'number'
				? Math.round(state.uptime - last.began_ago) : null;
			const sign = JSON.stringify([ ended, last.outcome, state.episode == null, state.uptime < this.uptime ]);
			const now = Date.now() / 1000;

			this.uptime = state.uptime;

			if (this.history && sign == this.sign && now - this.asked < HISTORY_EVERY)
				return { state: state };

			this.sign = sign;
			this.asked = now;

			return ask(callHistory).then(
				(history) => { this.history = history; return { state: state, fresh: true }; },
				(e) => { this.history = null; return { state: state, historyFailure: e }; });
		}, (e) => {
			/* Another process may answer next. */
			this.history = null;
			return { failure: e };
		});
	},

	update: function(seen) {
		const state = seen.state || {};

		this.state = seen.state;
		refresh(this.top, seen.failure != null
			? [ notice('danger', failed(seen.failure, 'status')) ]
			: stateOf(state));
		dom.content(this.cards, seen.failure != null ? [] : cardsOf(state));
		this.updateButtons();

		if (seen.failure != null || seen.historyFailure != null || seen.fresh)
			this.updateHistory(seen);
		else
			this.drawTimeline();
	},

	updateButtons: function() {
		const mayWrite = L.hasViewPermission() === true, runs = this.state != null;
		const drilling = runs && this.state.episode && this.state.episode.drill;
		const key = JSON.stringify([ mayWrite, runs, drilling != null && drilling !== false ]);

		/* A button that is being pressed is not taken away. */
		if (key == this.buttonKey)
			return;

		this.buttonKey = key;
		dom.content(this.buttons, [
			button(_('Check'), 'cbi-button-action', () => this.askCheck(), !mayWrite || !runs),
			button(_('Recover'), 'cbi-button-action', () => this.askRecover(), !mayWrite || !runs),
			drilling
				? button(_('Stop the drill'), 'cbi-button-negative', ui.createHandlerFn(this, 'stopDrill'), !mayWrite)
				: button(_('Drill'), 'cbi-button-action', () => this.askDrill(), !mayWrite || !runs)
		]);

		if (!mayWrite)
			dom.append(this.buttons, [ E('div', { 'id': 'tailover-readonly' }, [
				_('This login may look and not act. Let an administrator grant it write access to luci-app-tailover.')
			]) ]);
	},

	updateHistory: function(seen) {
		const history = this.history || {};
		const episodes = list(history.episodes);
		const content = [];

		this.drawTimeline();

		if (seen.failure != null) {
			dom.content(this.episodes, []);
			return;
		}

		if (seen.historyFailure != null)
			content.push(notice('warning', failed(seen.historyFailure, 'history')));
		else if (!episodes.length)
			content.push(E('em', {}, [ _('Nothing has happened yet.') ]));

		refresh(this.episodes, [ E('h3', {}, [ _('Episodes') ]), ...content, ...episodes.map(episodeBox) ]);
	},

	drawTimeline: function() {
		const history = this.history;

		if (!history) {
			dom.content(this.timeline, []);
			return;
		}

		const now = Date.now() / 1000, late = now - this.asked;
		const known = history.timeline && Array.isArray(history.timeline.ways) ? history.timeline : null;
		const times = list(history.episodes)
			.filter((episode) => typeof(episode.began_ago) == 'number')
			.map((episode) => {
				const from = now - late - episode.began_ago;
				return { from: from, to: from + (episode.seconds || 0), kind: kindOf(episode), text: titleOf(episode) };
			});
		const width = Math.max(240, Math.floor(this.timeline.clientWidth || 600));
		const shown = known ? Object.assign({}, known, { age: known.age + late }) : null;

		dom.content(this.timeline, [
			E('h3', {}, [ _('The last 24 hours') ]),
			timeline.draw(shown, times, now, width),
			timeline.legend(),
			E('div', { 'class': 'tailover-dim' }, [ known
				? _('Empty: not known, as before tailover was started. Times are those of this browser.')
				: _('This tailover does not tell verdicts over time: it is older than this page. Upgrade the package tailover.') ])
		]);
	},

	render: function(seen) {
		document.querySelector('head').appendChild(E('link', {
			'rel': 'stylesheet', 'type': 'text/css', 'href': L.resource('tailover/tailover.css')
		}));

		this.top = E('div', { 'id': 'tailover-state' });
		this.buttons = E('div', { 'id': 'tailover-buttons', 'class': 'tailover-row' });
		this.cards = E('div', { 'id': 'tailover-cards' });
		this.timeline = E('div', { 'id': 'tailover-day' });
		this.episodes = E('div', { 'id': 'tailover-episodes' });

		const page = E('div', { 'class': 'cbi-map' }, [
			E('h2', { 'name': 'content' }, [ _('Tailover') ]),
			E('div', { 'class': 'cbi-section' }, [ this.top, this.buttons, this.cards, this.timeline, this.episodes ])
		]);

		this.update(seen);
		poll.add(() => this.fetch().then((now) => this.update(now)));
		window.addEventListener('resize', () => this.drawTimeline());

		/* The page has its width once it stands in the document. */
		window.requestAnimationFrame(() => this.drawTimeline());

		return page;
	},

	askCheck: function() {
		modal(_('Check'), [
			E('p', {}, [ _('Every uplink, the path and tailscaled are tested once. That takes some seconds and sends probes over each uplink, metered ones too. Nothing is changed.') ])
		], [
			closeButton(), ' ',
			button(_('Check now'), 'cbi-button-action important', ui.createHandlerFn(this, 'check'))
		]);
	},

	check: function() {
		modal(_('Check'), [ E('p', { 'class': 'spinning' }, [ _('Testing every uplink, the path and tailscaled…') ]) ], [ closeButton() ]);

		return ask(callCheck).then((result) => {
			const would = list(result.would);

			modal(_('Result of the check'), [
				E('p', { 'class': 'tailover-sentence ' + mood(result) }, [ words(result.sentence, _('No sentence is told.')) ]),
				...list(result.faults).map(faultBox),
				...would.map((cure) => line(_('Cure'), _('the daemon would now %s').format(cure))),
				E('details', {}, [ E('summary', {}, [ _('Uplinks, path, tailnet') ]), ...cardsOf(result) ])
			], [ closeButton() ]);
		}, (e) => modal(_('Check'), [ notice('danger', failed(e, 'check')) ], [ closeButton() ]));
	},

	askRecover: function() {
		const force = E('input', { 'type': 'checkbox', 'id': 'tailover-force' });

		modal(_('Recover'), [
			E('p', {}, [ _('tailover looks now, and cures what is wrong with the tailnet. The traffic of the LAN keeps its way.') ]),
			E('p', {}, [ E('label', {}, [ force, ' ', _('Renew control, relay and paths also where they look well') ]) ])
		], [
			closeButton(), ' ',
			button(_('Recover now'), 'cbi-button-action important', ui.createHandlerFn(this, () => this.recover(force.checked)))
		]);
	},

	recover: function(force) {
		return ask(callRecover, force).then(() => this.follow(_('Recover'), RECOVER_PATIENCE, (state, first) => {
			/* The first look may be older than what was asked for. */
			if (first || (state.stage != 'quiet' && state.stage != 'resting'))
				return null;

			const well = state.stage == 'quiet' && !list(state.faults).length;

			return [
				E('p', {}, [ E('strong', {}, [ well ? _('Done: nothing is wrong.') : _('tailover has come to rest, and not all is well.') ]) ]),
				...list(state.faults).map(faultBox)
			];
		}), (e) => modal(_('Recover'), [ notice('danger', failed(e, 'recover')) ], [ closeButton() ]));
	},

	askDrill: function() {
		const uplinks = list(this.state && this.state.uplinks);
		const path = this.state && this.state.path || {};
		const used = FAMILIES.map(([ key ]) => path[key] && path[key].uplink).find((name) => name);
		const choice = E('select', { 'id': 'tailover-uplink', 'class': 'cbi-input-select' }, uplinks.map((uplink) =>
			E('option', { 'value': uplink.name, 'selected': uplink.name == used ? '' : null },
				[ '%s (%s)%s'.format(uplink.name, uplink.device, uplink.name == used ? _(', in use') : '') ])));
		const stay = E('input', { 'id': 'tailover-stay', 'class': 'cbi-input-text', 'type': 'text', 'value': DRILL_STAY });
		const error = E('p', { 'id': 'tailover-stay-error' });

		const start = () => {
			if (!DIGITS.test(stay.value) || Number(stay.value) > DRILL_STAY_MOST) {
				stay.classList.add('cbi-input-invalid');
				dom.content(error, [ _('Seconds: a whole number from 0 to %d.').format(DRILL_STAY_MOST) ]);
				return null;
			}

			return this.drill(choice.value, Number(stay.value));
		};

		modal(_('Drill'), [
			E('p', {}, [ _('Rehearses a failover: the tailnet\'s packets alone are turned away from an uplink, and back again after a while. The traffic of the LAN keeps its way. Whoever comes in over the tailnet may notice a short gap.') ]),
			E('p', {}, [ E('label', {}, [ _('Do without') + ' ', choice ]) ]),
			E('p', {}, [ E('label', {}, [ _('Seconds to stay away') + ' ', stay ]) ]),
			error
		], [
			closeButton(), ' ',
			button(_('Start the drill'), 'cbi-button-action important', ui.createHandlerFn(this, start), !uplinks.length)
		]);
	},

	drill: function(uplink, seconds) {
		return ask(callDrill, uplink, seconds).then((answer) => {
			if (answer.refused) {
				modal(_('No drill'), [ notice('warning', [ answer.refused ]) ], [ closeButton() ]);
				return null;
			}

			return this.follow(_('Drill of %s').format(uplink), DRILL_PATIENCE + seconds, (state, first) => {
				const last = state.last || {};

				if (first || (state.episode && state.episode.drill))
					return null;

				return [
					...(last.drill ? stepsOf(last) : []),
					E('p', {}, [ E('strong', {}, [ last.drill && last.drill.passed
						? _('Passed: %s').format(last.drill.summary)
						: _('Not passed: %s').format(words(last.drill && last.drill.summary, words(state.sentence, ''))) ]) ])
				];
			}, button(_('Stop the drill'), 'cbi-button-negative', ui.createHandlerFn(this, 'stopDrill')));
		}, (e) => modal(_('Drill'), [ notice('danger', failed(e, 'drill')) ], [ closeButton() ]));
	},

	stopDrill: function() {
		return ask(callDrillStop, true).catch((e) =>
			modal(_('Drill'), [ notice('danger', failed(e, 'drill')) ], [ closeButton() ]));
	},

	/* Shows in a modal how the daemon goes on, until `ended(state)` gives what to say at the end. */
	follow: function(title, patience, ended, extra) {
		const began = Date.now(), box = E('div', {});
		const close = button(_('Close'), '', () => { stop(); ui.hideModal(); });
		let first = true;

		const stop = () => poll.remove(look);
		const look = () => this.fetch().then((seen) => {
			this.update(seen);

			/* Closed, or another question stands there by now. */
			if (!document.body.contains(box)) {
				stop();
				return;
			}

			if (seen.failure != null) {
				dom.content(box, [ notice('danger', failed(seen.failure, 'status')) ]);
			}
			else {
				const end = ended(seen.state, first);
				first = false;

				if (end) {
					stop();
					modal(title, end, [ closeButton() ]);
					return;
				}

				dom.content(box, [
					E('p', { 'class': 'spinning' }, [ words(seen.state.sentence, '') ]),
					...(seen.state.episode ? stepsOf(seen.state.episode) : [])
				]);
			}

			if (Date.now() - began > patience * 1000) {
				stop();
				modal(title, [ notice('warning', [ _('Not over after %d s; tailover goes on.').format(patience) ]) ], [ closeButton() ]);
			}
		});

		modal(title, [ box ], extra ? [ extra, ' ', close ] : [ close ]);
		poll.add(look, 1);

		return look();
	}
});
