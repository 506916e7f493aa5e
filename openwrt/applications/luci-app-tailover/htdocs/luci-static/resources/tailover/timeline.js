'use strict';
'require baseclass';

/* Draws the last day as SVG: a row for each way out, and one for the episodes. */

const SVG = 'http://www.w3.org/2000/svg';
const DAY = 86400;
const LABEL = 15;
const BAR = 14;
const GAP = 9;
const AXIS = 18;

/* The bits of a slot (src/core/timeline.rs). The worse a verdict, the higher its bar: no colour is needed. */
const IN_USE = 16;
const VERDICTS = [
	{ bit: 8, word: 'closed', height: 14 },
	{ bit: 4, word: 'portal', height: 11 },
	{ bit: 2, word: 'dns-dead', height: 8 },
	{ bit: 1, word: 'open', height: 5 }
];

function node(name, attributes, children) {
	const element = document.createElementNS(SVG, name);

	for (const key in attributes)
		element.setAttribute(key, attributes[key]);

	for (const child of children || [])
		element.appendChild(typeof(child) == 'string' ? document.createTextNode(child) : child);

	return element;
}

function clock(seconds) {
	const time = new Date(seconds * 1000);
	return '%02d:%02d'.format(time.getHours(), time.getMinutes());
}

/* Calls `draw` for each stretch of equal slots that have something of `bits`. */
function stretches(slots, bits, draw) {
	let from = 0;

	for (let i = 0; i <= slots.length; i++) {
		const same = i < slots.length && i > from && (slots[i] & bits) == (slots[from] & bits);

		if (i == from || same)
			continue;

		if (slots[from] & bits)
			draw(from, i, slots[from] & bits);

		from = i;
	}
}

function wordsOf(bits) {
	const words = VERDICTS.filter((verdict) => bits & verdict.bit).map((verdict) => verdict.word);
	return words.length ? words.join(', ') : _('not known');
}

return baseclass.extend({
	verdicts: VERDICTS,

	/*
	 * `timeline` as `history` has it, or null; `episodes` of { from, to, kind, text } in Unix seconds, newest
	 * first; `now` in Unix seconds; `width` in pixels.
	 */
	draw: function(timeline, episodes, now, width) {
		const begin = now - DAY;
		const x = (seconds) => Math.max(0, Math.min(width, (seconds - begin) / DAY * width));
		const ways = timeline ? timeline.ways : [];
		const row = LABEL + BAR + GAP;
		const height = (ways.length + 1) * row + AXIS;
		const parts = [];

		/* Full hours, as many as have room. */
		const step = (width < 500 ? 6 : 3) * 3600;
		const zone = new Date(now * 1000).getTimezoneOffset() * 60;
		const first = Math.ceil((begin - zone) / step) * step + zone;

		for (let hour = first; hour < now; hour += step) {
			parts.push(node('line', {
				class: 'tailover-hour', x1: x(hour), x2: x(hour), y1: 0, y2: height - AXIS
			}));

			if (x(hour) > 18 && x(hour) < width - 18)
				parts.push(node('text', { x: x(hour), y: height - 4, 'text-anchor': 'middle' }, [ clock(hour) ]));
		}

		ways.forEach((way, at) => {
			const top = at * row + LABEL;
			const slots = [];

			for (let i = 0; i < way.slots.length; i++)
				slots.push(way.slots.charCodeAt(i) - 48);

			/* The last slot is not over: it ends now. */
			const start = (i) => now - timeline.age - (slots.length - 1 - i) * timeline.slot;
			const end = (i) => i == slots.length ? now : start(i);

			parts.push(node('text', { x: 0, y: top - 4 }, [ '%s %s'.format(way.uplink, way.family) ]));
			parts.push(node('line', {
				class: 'tailover-ground', x1: 0, x2: width, y1: top + BAR + 3, y2: top + BAR + 3
			}));

			for (const verdict of VERDICTS) {
				stretches(slots, verdict.bit, (from, to) => parts.push(node('rect', {
					class: 'tailover-bar tailover-' + verdict.word,
					x: x(start(from)), width: Math.max(1, x(end(to)) - x(start(from))),
					y: top + BAR - verdict.height, height: verdict.height
				})));
			}

			stretches(slots, IN_USE, (from, to) => parts.push(node('rect', {
				class: 'tailover-used',
				x: x(start(from)), width: Math.max(1, x(end(to)) - x(start(from))), y: top + BAR + 2, height: 3
			})));

			/* What a pointer is told, over it all. */
			stretches(slots, 31, (from, to, bits) => parts.push(node('rect', {
				class: 'tailover-touch',
				x: x(start(from)), width: Math.max(1, x(end(to)) - x(start(from))), y: top, height: BAR + 5
			}, [
				node('title', {}, [ '%s %s, %s-%s: %s%s'.format(way.uplink, way.family, clock(start(from)), clock(end(to)),
					wordsOf(bits), bits & IN_USE ? _(', in use') : '') ])
			])));
		});

		const top = ways.length * row + LABEL;

		parts.push(node('text', { x: 0, y: top - 4 }, [ _('Episodes') ]));
		parts.push(node('line', { class: 'tailover-ground', x1: 0, x2: width, y1: top + BAR + 3, y2: top + BAR + 3 }));

		for (const episode of episodes) {
			if (episode.to < begin)
				continue;

			parts.push(node('rect', {
				class: 'tailover-mark tailover-' + episode.kind,
				x: Math.min(x(episode.from), width - 4), width: Math.max(4, x(episode.to) - x(episode.from)),
				y: top, height: BAR
			}, [ node('title', {}, [ episode.text ]) ]));
		}

		return node('svg', {
			class: 'tailover-timeline', viewBox: '0 0 %d %d'.format(width, height), width: width, height: height,
			role: 'img', 'aria-label': _('The verdicts on each uplink, and the episodes, of the last 24 hours')
		}, parts);
	},

	/* The same words for those who read the picture. */
	legend: function() {
		const entry = (kind, height, text) => E('span', { 'class': 'tailover-key' }, [
			node('svg', { class: 'tailover-timeline', width: 14, height: 16, viewBox: '0 0 14 16' }, [
				node('rect', { class: kind, x: 0, width: 14, y: 15 - height, height: height })
			]),
			' ', text
		]);
		const entries = VERDICTS.slice().reverse().map((verdict) =>
			entry('tailover-bar tailover-' + verdict.word, verdict.height, verdict.word));

		entries.push(entry('tailover-used', 3, _('carries the tailnet')));
		entries.push(entry('tailover-mark tailover-ended', 14, _('episode')));
		entries.push(entry('tailover-mark tailover-person', 14, _('needs a person')));
		entries.push(entry('tailover-mark tailover-drill', 14, _('drill')));

		return E('div', { 'class': 'tailover-legend' }, entries);
	}
});
