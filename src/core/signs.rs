//! Signs of a dead way that cost no packet: counters that stand still, TCP segments that are resent.
//!
//! A sign never proves anything. ARP, DHCP and router advertisements arrive on dead uplinks, and a
//! peer may simply have nothing more to say. So a sign only starts a burst of probes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::Time;

/// A device that sends and hears nothing for this long is worth a question.
const SILENT: Duration = Duration::from_secs(1);

/// So many packets must have been sent into the silence; one may be a stray.
const UNANSWERED: u64 = 2;

/// Receptions of a steady flow whose spacing is remembered.
const GAPS: usize = 4;

/// A flow with longer pauses than this is not steady: its silence says nothing.
const STEADY: Duration = Duration::from_secs(2);

/// Pulses further apart than this say nothing of pauses.
const FINE: Duration = Duration::from_secs(1);

/// How much longer than usual a pause must be.
const LONGER: f64 = 2.0;

/// Resent this often, a segment was not lost by chance (one in 50 at 30 % loss each way). With the
/// kernel's first pause of 200 ms, doubled, the second comes 0.6 s after the segment (RFC 6298).
const RESENT: u32 = 2;

/// Questions that signs may cause at once, and after what time there is one more. A tailnet in
/// use pauses all the time; this bounds what that may cost to what the heartbeat costs.
const TOKENS: u32 = 10;
const TOKEN_EVERY: Duration = Duration::from_secs(30);

/// What the kernel counts for nothing. Read twice a second while the tailnet is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Packets of the uplinks' devices.
    pub uplinks: Vec<Traffic>,
    /// Packets of tailscale's own device: what peers send and get.
    pub tunnel: Option<Traffic>,
    /// TCP connections of the router that wait for an acknowledgement; `None` when they were not
    /// read.
    pub resending: Option<Vec<Resending>>,
    /// When data last came on connections that could prove the path; `None` when it was not asked.
    pub heard: Option<Vec<Heard>>,
    /// tailscaled's process is stopped (SIGSTOP): it cannot answer anything.
    pub halted: bool,
}

/// Packet counters of one device since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub device: String,
    pub received: u64,
    pub sent: u64,
}

/// One TCP connection with unacknowledged data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resending {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// How often the oldest segment was resent.
    pub times: u32,
}

/// A TCP connection on which data has come: no sign of a dead way, but the proof of a living one.
/// Somebody between may acknowledge in another's name; TLS data only the other end has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Since the last byte of data (tcpi_last_data_recv).
    pub ago: Duration,
}

/// What pulses have shown so far.
#[derive(Clone, Debug)]
pub struct Signs {
    uplinks: Vec<Meter>,
    tunnel: Option<Meter>,
    /// Connections whose resending was told; forgotten when they are heard again.
    told: Vec<(SocketAddr, SocketAddr)>,
    tokens: u32,
    token_at: Time,
}

impl Default for Signs {
    fn default() -> Signs {
        Signs {
            uplinks: Vec::new(),
            tunnel: None,
            told: Vec::new(),
            tokens: TOKENS,
            token_at: Time::ZERO,
        }
    }
}

impl Signs {
    /// Takes a pulse. `used` are the devices of the paths in use, `own` tells tailscaled's
    /// connections. Gives a sentence when this pulse shows a new sign.
    pub fn take(
        &mut self,
        now: Time,
        pulse: &Pulse,
        used: &[&str],
        own: impl Fn(&Resending) -> bool,
    ) -> Option<String> {
        self.uplinks
            .retain(|m| pulse.uplinks.iter().any(|t| t.device == m.device));
        for t in &pulse.uplinks {
            match self.uplinks.iter_mut().find(|m| m.device == t.device) {
                Some(m) => m.take(now, t),
                None => self.uplinks.push(Meter::new(now, t)),
            }
        }
        match (&mut self.tunnel, &pulse.tunnel) {
            (Some(m), Some(t)) if m.device == t.device => m.take(now, t),
            (slot, t) => *slot = t.as_ref().map(|t| Meter::new(now, t)),
        }
        let mut signs = Vec::new();
        for m in &mut self.uplinks {
            if used.contains(&m.device.as_str()) && m.unanswered(now) {
                signs.push(format!("{} sends and receives nothing", m.device));
            }
        }
        if let Some(m) = &mut self.tunnel {
            if m.fell_silent(now) || m.unanswered(now) {
                signs.push(format!("nothing comes from the peers by {}", m.device));
            }
        }
        if let Some(list) = &pulse.resending {
            let resent: Vec<&Resending> = list
                .iter()
                .filter(|r| r.times >= RESENT && own(r))
                .collect();
            self.told
                .retain(|id| resent.iter().any(|r| (r.local, r.remote) == *id));
            for r in resent {
                if !self.told.contains(&(r.local, r.remote)) {
                    self.told.push((r.local, r.remote));
                    signs.push(format!("tailscaled's packets to {} are resent", r.remote));
                }
            }
        }
        signs.into_iter().next()
    }

    /// Takes one of the questions that signs may cause. `false`: they have caused enough of them.
    pub fn may_ask(&mut self, now: Time) -> bool {
        while self.tokens < TOKENS && self.token_at + TOKEN_EVERY <= now {
            self.tokens += 1;
            self.token_at += TOKEN_EVERY;
        }
        if self.tokens == TOKENS {
            self.token_at = now;
        }
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }

    /// True while the tunnel carries something, or is new: its silence would be seen at once.
    pub fn in_use(&self, now: Time) -> bool {
        let quiet = |m: &Meter| now.saturating_sub(m.moved_at);
        self.tunnel.as_ref().is_some_and(|m| quiet(m) < STEADY * 5)
    }
}

/// The counters of one device over time.
#[derive(Clone, Debug)]
struct Meter {
    device: String,
    received: u64,
    sent: u64,
    read_at: Time,
    /// When it last received, and when it last did anything.
    received_at: Time,
    moved_at: Time,
    /// Packets sent since it last received.
    unanswered: u64,
    /// The latest pauses between receptions.
    gaps: VecDeque<Duration>,
    /// This silence was told already.
    told: bool,
}

impl Meter {
    fn new(now: Time, t: &Traffic) -> Meter {
        Meter {
            device: t.device.clone(),
            received: t.received,
            sent: t.sent,
            read_at: now,
            received_at: now,
            moved_at: now,
            unanswered: 0,
            gaps: VecDeque::with_capacity(GAPS),
            told: false,
        }
    }

    fn take(&mut self, now: Time, t: &Traffic) {
        let fine = now.saturating_sub(self.read_at) <= FINE;
        self.read_at = now;
        if t.received < self.received || t.sent < self.sent {
            // The device was made anew.
            *self = Meter::new(now, t);
            return;
        }
        if t.received != self.received || t.sent != self.sent {
            self.moved_at = now;
        }
        if t.received > self.received {
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            if fine {
                self.gaps.push_back(now.saturating_sub(self.received_at));
            }
            self.received_at = now;
            self.unanswered = 0;
            self.told = false;
        } else {
            if self.unanswered == 0 && !fine {
                // What was sent since the last pulse may be of just now, its answer under way.
                self.received_at = now;
            }
            self.unanswered = self.unanswered.saturating_add(t.sent - self.sent);
        }
        (self.received, self.sent) = (t.received, t.sent);
    }

    /// It sends, and has heard nothing for a while. Told once for each silence.
    fn unanswered(&mut self, now: Time) -> bool {
        let silent = now.saturating_sub(self.received_at) >= SILENT;
        let sign = silent && self.unanswered >= UNANSWERED;
        self.tell(sign)
    }

    /// A steady flow has stopped. Told once for each silence.
    fn fell_silent(&mut self, now: Time) -> bool {
        let usual = self.gaps.iter().max().copied().unwrap_or_default();
        let steady = self.gaps.len() == GAPS && usual <= STEADY;
        let due = SILENT.max(usual.mul_f64(LONGER));
        let sign = steady && now.saturating_sub(self.received_at) >= due;
        self.tell(sign)
    }

    fn tell(&mut self, sign: bool) -> bool {
        let new = sign && !self.told;
        self.told |= sign;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample::{MS, S};

    const HALF: Duration = Duration::from_millis(500);

    fn traffic(device: &str, received: u64, sent: u64) -> Traffic {
        Traffic {
            device: device.into(),
            received,
            sent,
        }
    }

    /// Feeds (received, sent) of the tunnel every half second, from 0.5 s on; gives when signs came.
    fn tunnel(counts: &[(u64, u64)]) -> Vec<Duration> {
        let mut signs = Signs::default();
        let mut seen = Vec::new();
        for (at, (received, sent)) in counts.iter().enumerate() {
            let now = HALF * (at as u32 + 1);
            let pulse = Pulse {
                tunnel: Some(traffic("tailscale0", *received, *sent)),
                ..Pulse::default()
            };
            if signs.take(now, &pulse, &[], |_| true).is_some() {
                seen.push(now);
            }
        }
        seen
    }

    fn uplink(counts: &[(u64, u64)]) -> usize {
        let mut signs = Signs::default();
        let told = counts.iter().enumerate().filter(|(at, (r, s))| {
            let pulse = Pulse {
                uplinks: vec![traffic("eth1", *r, *s)],
                ..Pulse::default()
            };
            signs
                .take(HALF * (*at as u32), &pulse, &["eth1"], |_| true)
                .is_some()
        });
        told.count()
    }

    #[test]
    fn a_steady_flow_that_stops_is_a_sign_within_a_second_and_told_once() {
        let flow: Vec<(u64, u64)> = (1..=6).map(|n| (n * 2, n * 2)).collect();
        let mut stopped = flow.clone();
        stopped.extend([(12, 12); 20]);
        assert_eq!(tunnel(&stopped), [HALF * 8]);
        assert!(tunnel(&flow).is_empty());
    }

    #[test]
    fn a_flow_with_pauses_gets_longer_before_its_silence_counts() {
        // Something every second; then a pause of two seconds less a moment.
        let mut counts: Vec<(u64, u64)> = (0..12).map(|n| (n / 2, 0)).collect();
        counts.extend([(5, 0); 2]);
        counts.push((6, 0));
        assert!(tunnel(&counts).is_empty());
    }

    #[test]
    fn an_uplink_that_sends_into_silence_is_a_sign() {
        assert_eq!(uplink(&[(5, 5), (5, 6), (5, 7), (5, 8), (5, 9)]), 1);
        assert_eq!(uplink(&[(5, 5), (5, 6), (6, 7), (6, 8), (7, 9)]), 0);
        assert_eq!(uplink(&[(5, 5), (5, 6), (5, 6), (5, 6), (5, 6)]), 0);
    }

    #[test]
    fn what_was_sent_just_before_a_rare_pulse_gets_time_for_its_answer() {
        let mut signs = Signs::default();
        let mut take = |at: u32, received, sent| {
            let pulse = Pulse {
                uplinks: vec![traffic("eth1", received, sent)],
                ..Pulse::default()
            };
            let now = Duration::from_secs(u64::from(at));
            signs.take(now, &pulse, &["eth1"], |_| true).is_some()
        };
        assert!(!take(0, 5, 5));
        assert!(!take(10, 5, 8));
        assert!(take(20, 5, 9));
    }

    #[test]
    fn counters_that_start_anew_are_no_sign() {
        assert_eq!(uplink(&[(500, 500), (3, 3), (3, 3), (3, 3)]), 0);
    }

    #[test]
    fn only_what_tailscaled_resends_counts_and_only_once() {
        let to = |last: u8, times| Resending {
            local: ([192, 0, 2, 2], 40000).into(),
            remote: ([198, 51, 100, last], 443).into(),
            times,
        };
        let mut signs = Signs::default();
        let mut take = |list: Vec<Resending>| {
            let pulse = Pulse {
                resending: Some(list),
                ..Pulse::default()
            };
            signs
                .take(HALF, &pulse, &[], |r| {
                    r.remote.ip().to_string() == "198.51.100.1"
                })
                .is_some()
        };
        assert!(!take(vec![to(1, 1), to(2, 9)]));
        assert!(take(vec![to(1, 2)]));
        assert!(!take(vec![to(1, 3)]));
        assert!(!take(vec![]));
        assert!(take(vec![to(1, 2)]));
    }

    #[test]
    fn questions_are_bounded_over_time() {
        let mut signs = Signs::default();
        let asked = (0..3600)
            .filter(|s| signs.may_ask(Duration::from_secs(*s)))
            .count();
        assert_eq!(asked, 10 + 3600 / 30 - 1);
    }

    /// What a pulse with these counters says.
    fn pulsed(
        signs: &mut Signs,
        now: Duration,
        uplinks: &[Traffic],
        tunnel: Option<Traffic>,
    ) -> Option<String> {
        let pulse = Pulse {
            uplinks: uplinks.to_vec(),
            tunnel,
            ..Pulse::default()
        };
        signs.take(now, &pulse, &["eth1"], |_| true)
    }

    /// Whether an uplink that has sent so many packets into a silence of so long is a sign.
    fn silent(device: &str, span: Duration, sent: u64) -> Option<String> {
        let mut signs = Signs::default();
        pulsed(&mut signs, S, &[traffic(device, 5, 5)], None);
        pulsed(&mut signs, S + MS, &[traffic(device, 5, 5 + sent)], None);
        pulsed(&mut signs, S + span, &[traffic(device, 5, 5 + sent)], None)
    }

    #[test]
    fn an_uplink_in_use_is_silent_after_a_second_and_two_packets() {
        let text = Some("eth1 sends and receives nothing".to_string());
        assert_eq!(silent("eth1", S, 2), text);
        assert_eq!(silent("eth1", S - MS, 2), None);
        assert_eq!(silent("eth1", S, 1), None);
        assert_eq!(silent("eth2", S, 2), None, "nothing leaves by it");
    }

    #[test]
    fn each_device_is_compared_with_itself_and_forgotten_when_it_goes() {
        let mut signs = Signs::default();
        let both = |received, sent| [traffic("eth1", received, 9), traffic("eth2", 9, sent)];
        pulsed(&mut signs, S, &both(5, 5), None);
        for n in 1..8 {
            let now = S + HALF * n;
            let told = pulsed(
                &mut signs,
                now,
                &both(5 + u64::from(n), 5 + u64::from(n)),
                None,
            );
            assert_eq!(told, None);
        }
        assert_eq!(signs.uplinks.len(), 2);
        pulsed(&mut signs, S * 9, &[traffic("eth2", 9, 9)], None);
        let left: Vec<&str> = signs.uplinks.iter().map(|m| m.device.as_str()).collect();
        assert_eq!(left, ["eth2"]);
    }

    #[test]
    fn another_tunnel_begins_anew() {
        let mut signs = Signs::default();
        let mut take = |n: u32, device: &str, received, sent| {
            let tunnel = Some(traffic(device, received, sent));
            pulsed(&mut signs, HALF * n, &[], tunnel)
        };
        take(1, "tailscale0", 5, 5);
        take(2, "tailscale0", 5, 8);
        let text = Some("nothing comes from the peers by tailscale0".to_string());
        assert_eq!(take(4, "tailscale0", 5, 9), text);
        take(5, "tailscale1", 5, 9);
        take(6, "tailscale1", 5, 12);
        assert_eq!(take(6, "tailscale1", 5, 12), None, "half a second");
        assert!(take(8, "tailscale1", 5, 12).is_some());
    }

    #[test]
    fn a_steady_flow_is_one_without_long_pauses_of_which_enough_are_known() {
        // Every `gap` half seconds something comes; the last pause is `pause` half seconds.
        let stops = |times: u32, gap: u32, pause: u32| {
            let mut signs = Signs::default();
            let mut told = false;
            let mut received = 0;
            for n in 0..=times * gap {
                received += u64::from(n % gap == 0);
                let tunnel = Some(traffic("tailscale0", received, 0));
                pulsed(&mut signs, HALF * n, &[], tunnel);
            }
            for n in 1..=pause {
                let tunnel = Some(traffic("tailscale0", received, 0));
                told |= pulsed(&mut signs, HALF * (times * gap + n), &[], tunnel).is_some();
            }
            told
        };
        assert!(stops(4, 1, 2) && !stops(4, 1, 1));
        assert!(!stops(3, 1, 9), "too little is known of it");
        // Twice the usual pause.
        assert!(stops(4, 4, 8) && !stops(4, 4, 7));
        assert!(!stops(4, 5, 99), "such a flow pauses anyway");
    }

    #[test]
    fn rare_pulses_say_nothing_of_pauses() {
        let told = |every: Duration| {
            let mut signs = Signs::default();
            for n in 0..6 {
                let tunnel = Some(traffic("tailscale0", u64::from(n), 0));
                pulsed(&mut signs, every * n, &[], tunnel);
            }
            let mut pauses = (1..9).map(|n| every * 5 + S * n);
            pauses.any(|now| {
                let tunnel = Some(traffic("tailscale0", 5, 0));
                pulsed(&mut signs, now, &[], tunnel).is_some()
            })
        };
        assert!(told(S));
        assert!(!told(S + MS));
    }

    #[test]
    fn a_device_that_was_made_anew_has_moved_nothing_yet() {
        for (received, sent, anew) in [(4, 9, true), (9, 4, true), (5, 5, false), (9, 9, false)] {
            let mut meter = Meter::new(S, &traffic("eth1", 5, 5));
            meter.unanswered = 7;
            meter.take(S * 2, &traffic("eth1", received, sent));
            let fresh = meter.unanswered == 0 && meter.gaps.is_empty();
            assert_eq!(fresh, anew, "{received} {sent}");
        }
    }

    #[test]
    fn a_tunnel_is_in_use_for_ten_seconds_after_each_packet() {
        let used = |received, sent, span: Duration| {
            let mut signs = Signs::default();
            let tunnel = Some(traffic("tailscale0", 5, 5));
            pulsed(&mut signs, S, &[], tunnel);
            let tunnel = Some(traffic("tailscale0", received, sent));
            pulsed(&mut signs, S * 20, &[], tunnel);
            signs.in_use(S * 20 + span)
        };
        assert!(used(6, 5, S * 10 - MS) && !used(6, 5, S * 10));
        assert!(used(5, 6, S * 10 - MS));
        assert!(!used(5, 5, MS), "nothing has moved");
        assert!(!Signs::default().in_use(S));
    }

    #[test]
    fn what_was_told_is_told_again_once_it_was_heard() {
        let mut meter = Meter::new(S, &traffic("eth1", 5, 5));
        meter.take(S + HALF, &traffic("eth1", 5, 9));
        assert!(meter.unanswered(S * 2) && !meter.unanswered(S * 3));
        meter.take(S * 3, &traffic("eth1", 6, 9));
        assert!(!meter.unanswered(S * 3));
        meter.take(S * 3 + HALF, &traffic("eth1", 6, 12));
        assert!(meter.unanswered(S * 4));
    }

    #[test]
    fn of_two_connections_each_is_told_once() {
        let to = |last: u8| Resending {
            local: ([192, 0, 2, 2], 40000).into(),
            remote: ([198, 51, 100, last], 443).into(),
            times: 2,
        };
        let mut signs = Signs::default();
        let mut take = |list: Vec<Resending>| {
            let pulse = Pulse {
                resending: Some(list),
                ..Pulse::default()
            };
            signs.take(HALF, &pulse, &[], |_| true)
        };
        let text = |last: u8| {
            Some(format!(
                "tailscaled's packets to 198.51.100.{last}:443 are resent"
            ))
        };
        assert_eq!(take(vec![to(1)]), text(1));
        assert_eq!(take(vec![to(1), to(2)]), text(2));
        assert_eq!(take(vec![to(1), to(2)]), None);
        assert_eq!(take(vec![to(2)]), None);
        assert_eq!(take(vec![to(1), to(2)]), text(1));
    }

    #[test]
    fn a_question_is_given_back_each_half_minute_up_to_ten() {
        let mut signs = Signs::default();
        let asked =
            |signs: &mut Signs, now: Duration| (0..99).filter(|_| signs.may_ask(now)).count();
        let begin = S * 1000;
        assert_eq!(asked(&mut signs, begin), 10);
        assert_eq!(asked(&mut signs, begin + S * 30 - MS), 0);
        assert_eq!(asked(&mut signs, begin + S * 30), 1);
        assert_eq!(asked(&mut signs, begin + S * 60 - MS), 0);
        assert_eq!(asked(&mut signs, begin + S * 90), 2);
        assert_eq!(asked(&mut signs, begin + S * 9000), 10);
    }
}
