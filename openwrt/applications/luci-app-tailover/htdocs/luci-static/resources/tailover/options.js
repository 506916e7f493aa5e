'use strict';
'require baseclass';

/* Made from the table in src/config/options.rs; a test keeps the two equal. */

return baseclass.extend({
	list: [
		{
			name: 'enabled', kind: 'switch', list: false, since: '0.1',
			default: [ '1' ],
			help: _('Whether the service runs at all.'),
			allowed: _('1 or 0, also on/off, yes/no, true/false, enabled/disabled')
		},
		{
			name: 'log_level', kind: 'level', list: false, since: '0.1',
			default: [ 'info' ],
			help: _('How much is logged; info is one line for each act.'),
			allowed: _('error, warn, info, debug or trace')
		},
		{
			name: 'uplink', kind: 'uplinks', list: true, since: '0.1',
			default: [],
			help: _('Interfaces or devices that lead outside, best first; empty: every one with a default route.'),
			allowed: _('names of interfaces or devices: 1 to 64 characters, no blanks, no /')
		},
		{
			name: 'metered', kind: 'uplinks', list: true, since: '0.1',
			default: [],
			help: _('Interfaces or devices that cost by volume: chosen last, asked seldom and with few bytes.'),
			allowed: _('names of interfaces or devices: 1 to 64 characters, no blanks, no /')
		},
		{
			name: 'target', kind: 'targets', list: true, since: '0.1',
			default: [ 'derp', 'tcp:8.8.8.8:53', 'tcp:1.1.1.1:53' ],
			help: _('Whose answer proves an uplink open; all are asked side by side, any answer counts.'),
			allowed: _('derp, tcp:HOST:PORT, http:URL or https:URL, an IPv6 address in brackets')
		},
		{
			name: 'external_ip', kind: 'external_ips', list: true, since: '0.1',
			default: [ 'stun', 'https://api.ipify.org?format=json' ],
			help: _('How to learn an uplink\'s public address, whose change is itself a trigger.'),
			allowed: _('stun, an http or https URL, or off alone')
		},
		{
			name: 'interval', kind: 'seconds', min: 1, max: 3600, list: false, since: '0.1',
			default: [ '30' ],
			help: _('Seconds after the last proof until the path that the tailnet\'s packets take now is asked.'),
			allowed: _('seconds from 1 to 3600, with at most three decimals')
		},
		{
			name: 'other_interval', kind: 'seconds', min: 1, max: 86400, list: false, since: '0.1',
			default: [ '300' ],
			help: _('Seconds between two looks at an uplink that is not in use.'),
			allowed: _('seconds from 1 to 86400, with at most three decimals')
		},
		{
			name: 'settle', kind: 'seconds', min: 0, max: 10, list: false, since: '0.1',
			default: [ '0.2' ],
			help: _('Seconds to wait for the rest of a burst of events before looking.'),
			allowed: _('seconds from 0 to 10, with at most three decimals')
		},
		{
			name: 'probe_timeout', kind: 'seconds', min: 0.1, max: 60, list: false, since: '0.1',
			default: [ '2' ],
			help: _('Seconds that a round of datagrams (STUN) may take.'),
			allowed: _('seconds from 0.1 to 60, with at most three decimals')
		},
		{
			name: 'tcp_timeout', kind: 'seconds', min: 0.1, max: 60, list: false, since: '0.1',
			default: [ '3' ],
			help: _('Seconds that a TCP connection may take to open.'),
			allowed: _('seconds from 0.1 to 60, with at most three decimals')
		},
		{
			name: 'tls_timeout', kind: 'seconds', min: 0.1, max: 60, list: false, since: '0.1',
			default: [ '5' ],
			help: _('Seconds that a TLS handshake may take, the TCP connection included.'),
			allowed: _('seconds from 0.1 to 60, with at most three decimals')
		},
		{
			name: 'http_timeout', kind: 'seconds', min: 0.1, max: 60, list: false, since: '0.1',
			default: [ '5' ],
			help: _('Seconds that an HTTP request may take, everything included.'),
			allowed: _('seconds from 0.1 to 60, with at most three decimals')
		},
		{
			name: 'hold', kind: 'seconds', min: 0, max: 86400, list: false, since: '0.1',
			default: [ '30' ],
			help: _('Seconds that a better uplink must be open without a break before going back to it.'),
			allowed: _('seconds from 0 to 86400, with at most three decimals')
		},
		{
			name: 'cure', kind: 'cures', list: true, since: '0.1',
			default: [ 'steer', 'nudge', 'renew', 'mend', 'restart' ],
			help: _('The cures that are allowed; the mildest that fits comes first in any case.'),
			allowed: _('steer, nudge, renew, mend or restart')
		},
		{
			name: 'restart_min', kind: 'seconds', min: 1, max: 86400, list: false, since: '0.1',
			default: [ '60' ],
			help: _('Seconds from one restart to the next at first; doubled each time.'),
			allowed: _('seconds from 1 to 86400, with at most three decimals')
		},
		{
			name: 'restart_max', kind: 'seconds', min: 1, max: 86400, list: false, since: '0.1',
			default: [ '3600' ],
			help: _('Seconds from one restart to the next at most.'),
			allowed: _('seconds from 1 to 86400, with at most three decimals')
		},
		{
			name: 'restarts_per_hour', kind: 'number', min: 0, max: 60, list: false, since: '0.1',
			default: [ '3' ],
			help: _('The most restarts within any hour.'),
			allowed: _('a whole number from 0 to 60')
		},
		{
			name: 'service', kind: 'service', list: false, since: '0.1',
			default: [ 'tailscale' ],
			help: _('The script in /etc/init.d that runs tailscaled.'),
			allowed: _('the name of a script in /etc/init.d: letters, digits, _, . and -')
		},
		{
			name: 'socket', kind: 'socket', max: 107, list: false, since: '0.1',
			default: [ '/var/run/tailscale/tailscaled.sock' ],
			help: _('The socket of tailscaled\'s LocalAPI.'),
			allowed: _('an absolute path of at most 107 bytes, no control characters')
		},
		{
			name: 'ubus_socket', kind: 'socket', max: 107, list: false, since: '0.1',
			default: [ '/var/run/ubus/ubus.sock' ],
			help: _('The socket of ubusd.'),
			allowed: _('an absolute path of at most 107 bytes, no control characters')
		},
		{
			name: 'mark', kind: 'mark', list: false, since: '0.1',
			default: [ '0x80000/0xff0000' ],
			help: _('The mark on tailscaled\'s own packets.'),
			allowed: _('VALUE/MASK such as 0x80000/0xff0000, VALUE not 0 and within MASK')
		},
		{
			name: 'mmx_mask', kind: 'mask', list: false, since: '0.1',
			default: [ '0x3f00' ],
			help: _('The bits of the mark that mwan3 uses; at the default mwan3\'s own globals are read.'),
			allowed: _('a number other than 0, such as 0x3f00')
		},
		{
			name: 'priority', kind: 'number', min: 3, max: 998, list: false, since: '0.1',
			default: [ '990' ],
			help: _('The third of the four ip rule priorities in use.'),
			allowed: _('a whole number from 3 to 998')
		},
		{
			name: 'table', kind: 'number', min: 256, max: 65000, list: false, since: '0.1',
			default: [ '17400' ],
			help: _('The first of the 64 routing tables in use, one for each uplink.'),
			allowed: _('a whole number from 256 to 65000')
		},
		{
			name: 'protocol', kind: 'number', min: 100, max: 185, list: false, since: '0.1',
			default: [ '122' ],
			help: _('The protocol number that marks rules and routes as tailover\'s.'),
			allowed: _('a whole number from 100 to 185')
		},
		{
			name: 'state_dir', kind: 'path', max: 4095, list: false, since: '0.1',
			default: [ '/var/run/tailover' ],
			help: _('Where the lock against a second daemon and the history are; on a router this is RAM.'),
			allowed: _('an absolute path, no control characters')
		},
		{
			name: 'history', kind: 'path', max: 4095, list: false, since: '0.1',
			default: [],
			help: _('A copy of the history that outlives a reboot, written at the end and every 6 hours at most; empty: none.'),
			allowed: _('an absolute path, no control characters, or nothing')
		},
		{
			name: 'ca_file', kind: 'path', max: 4095, list: false, since: '0.1',
			default: [],
			help: _('The CA certificates to trust, in PEM; empty: the system\'s.'),
			allowed: _('an absolute path, no control characters, or nothing')
		}
	]
});
