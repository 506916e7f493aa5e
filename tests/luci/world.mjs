// The little world that the pages are tested in: two uplinks, a double of tailscaled, the real daemon on the lab's
// double of ubusd, and the web server's double. All of it is in namespaces of its own and ends with this process.

import { spawn, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';

export const HERE = path.dirname(fileURLToPath(import.meta.url));
export const ROOT = path.resolve(HERE, '../..');
const BIN = path.join(ROOT, 'target/debug');
const INSIDE = 'TAILOVER_LUCI_INSIDE';

// The longest wait for anything; reached only when a test fails.
export const PATIENCE = 30000;

/** Runs this program again in namespaces of its own. Does not return, unless it is the one inside. */
export function enter() {
	if (process.env[INSIDE])
		return;

	for (const user of [ [], [ '--user', '--map-root-user' ] ]) {
		const command = [ ...user, '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc' ];

		try {
			execFileSync('unshare', [ ...command, 'true' ], { stdio: 'ignore' });
		}
		catch (e) {
			continue;
		}

		try {
			execFileSync('unshare', [ ...command, process.execPath, ...process.execArgv, ...process.argv.slice(1) ], {
				stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' }
			});
			process.exit(0);
		}
		catch (e) {
			process.exit(e.status || 1);
		}
	}

	console.error('luci: no right to make namespaces here (root, or user namespaces)');
	process.exit(77);
}

const ip = (words) => execFileSync('ip', words.split(' '));

/** Asks again until `so` gives something true; gives that. */
export async function until(what, so, patience = PATIENCE) {
	const end = Date.now() + patience;

	for (;;) {
		const found = await so();

		if (found)
			return found;

		if (Date.now() > end)
			throw new Error('not so within %d s: %s'.replace('%d', patience / 1000).replace('%s', what));

		await new Promise((resolve) => setTimeout(resolve, 50));
	}
}

/** A program of the world; `lines` is what it has said. */
class Program {
	constructor(command, args, stdin) {
		this.lines = [];
		this.child = spawn(command, args, { stdio: [ stdin ? 'pipe' : 'ignore', 'pipe', 'pipe' ] });
		this.ended = new Promise((resolve) => this.child.on('exit', resolve));

		for (const stream of [ this.child.stdout, this.child.stderr ])
			readline.createInterface({ input: stream }).on('line', (line) => this.lines.push(line));
	}

	said(text) {
		return this.lines.find((line) => line.includes(text));
	}

	ready(text = 'ready') {
		return until(text + ' is said: ' + this.child.spawnargs.join(' '), () => this.said(text));
	}

	async end() {
		this.child.kill();
		await this.ended;
	}
}

export class World {
	async start() {
		this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tailover-luci-'));
		this.socket = this.at('ubus.sock');
		this.config = this.at('config');
		this.writeConfig();

		ip('link set lo up');
		this.outside = new Program('unshare', [
			'--net', 'python3', path.join(HERE, 'outside.py'), 'isp1=192.0.2.1/24', 'isp2=203.0.113.1/24'
		], true);
		await until('the outside has a namespace of its own', () => {
			const of = (pid) => fs.readlinkSync('/proc/%s/ns/net'.replace('%s', pid));
			return of(this.outside.child.pid) != of('self');
		});

		[ 'wan', 'wanb' ].forEach((name, at) => {
			const device = 'eth' + (at + 1), network = [ '192.0.2', '203.0.113' ][at];

			ip('link add %s type veth peer name isp%d netns %p'.replace('%s', device).replace('%d', at + 1)
				.replace('%p', this.outside.child.pid));
			ip('addr add %n.2/24 dev %s'.replace('%n', network).replace('%s', device));
			ip('link set ' + device + ' up');
			ip('route add default via %n.1 dev %s metric %m'.replace('%n', network).replace('%s', device)
				.replace('%m', 10 * (at + 1)));
		});
		await this.outside.ready();

		this.ubusd = new Program(path.join(BIN, 'ubusd'), [ '-s', this.socket ]);
		await until('ubusd listens', () => fs.existsSync(this.socket));
		fs.writeFileSync(this.at('netifd.json'), JSON.stringify({
			interfaces: [ [ 'wan', 'eth1' ], [ 'wanb', 'eth2' ] ].map(([ name, device ]) => (
				{ interface: name, up: true, device: device, l3_device: device, proto: 'static' }))
		}));
		this.netifd = new Program(path.join(BIN, 'netifd'), [ '--state', this.at('netifd.json'), '--socket', this.socket ]);
		await this.netifd.ready();

		// What tailscaled puts into the kernel, as far as the recordings tell it.
		ip('link add tailscale0 type veth peer name tailscale1');
		ip('addr add 100.64.0.2/32 dev tailscale0');
		ip('link set tailscale0 up');
		ip('route add 100.100.100.100/32 dev tailscale0 table 52');
		ip('rule add priority 5210 fwmark 0x80000/0xff0000 lookup main');
		ip('rule add priority 5230 fwmark 0x80000/0xff0000 lookup default');
		ip('rule add priority 5250 fwmark 0x80000/0xff0000 type unreachable');
		ip('rule add priority 5270 lookup 52');
		await this.startTailscaled();
		await this.startDaemon();

		const luci = process.env.LUCI ? [ '--luci', path.resolve(process.env.LUCI) ] : [];

		this.web = new Program('python3', [
			path.join(HERE, 'endpoint.py'), '--ubus', path.join(BIN, 'ubus'), '--socket', this.socket,
			'--config', this.config, ...luci
		]);
		this.port = await until('the web server has a port', () => this.web.lines[0]);
	}

	at(name) {
		return path.join(this.folder, name);
	}

	writeConfig() {
		const options = [
			[ 'option', 'ubus_socket', this.socket ], [ 'option', 'socket', this.at('tailscaled.sock') ],
			[ 'option', 'state_dir', this.at('state') ], [ 'list', 'external_ip', 'stun' ],
			[ 'list', 'cure', 'steer' ], [ 'list', 'cure', 'nudge' ], [ 'list', 'cure', 'renew' ]
		];

		fs.writeFileSync(this.config, "config tailover 'main'\n" + options
			.map(([ word, name, value ]) => `\t${word} ${name} '${value}'\n`).join(''));
	}

	async startTailscaled() {
		this.tailscaled = new Program('python3', [ path.join(HERE, 'tailscaled.py'), this.at('tailscaled.sock') ]);
		await this.tailscaled.ready();
	}

	async startDaemon() {
		// A copy without tailover-fetch beside it: there is no TLS and no HTTP in this outside.
		fs.copyFileSync(path.join(BIN, 'tailover'), this.at('tailover'));
		this.daemon = new Program(this.at('tailover'), [ '--config', this.config, 'run' ]);
		await until('the daemon is on ubus', () => this.call('status'));
	}

	/** Calls the daemon beside the pages; null when nobody answers. */
	call(method, words = {}) {
		try {
			const text = execFileSync(path.join(BIN, 'ubus'), [
				'-s', this.socket, 'call', 'tailover', method, JSON.stringify(words)
			], { stdio: [ 'ignore', 'pipe', 'ignore' ] });

			return JSON.parse(text);
		}
		catch (e) {
			return null;
		}
	}

	/** What `tailover run --test` says of a configuration: '' when it is good. */
	judge(text) {
		const file = this.at('judged');

		fs.writeFileSync(file, text);

		try {
			execFileSync(path.join(BIN, 'tailover'), [ '--config', file, 'run', '--test' ], { stdio: 'pipe' });
			return '';
		}
		catch (e) {
			return String(e.stderr);
		}
	}

	async outsideDoes(line) {
		const before = this.outside.lines.length;

		this.outside.child.stdin.write(line + '\n');
		await until(line, () => this.outside.lines.slice(before).includes('done'));
	}

	/** Steers the web server (endpoint.py, Router.steer); gives the calls since the last time. */
	async steer(order = {}) {
		const response = await fetch(`http://127.0.0.1:${this.port}/test`, { method: 'POST', body: JSON.stringify(order) });

		return (await response.json()).calls;
	}

	calls() {
		return this.steer(null);
	}

	url(view, access) {
		return `http://127.0.0.1:${this.port}/page?view=${view}&access=${access}`;
	}

	async end() {
		for (const program of [ this.web, this.daemon, this.tailscaled, this.netifd, this.ubusd, this.outside ])
			if (program)
				await program.end();

		fs.rmSync(this.folder, { recursive: true, force: true });
	}
}
