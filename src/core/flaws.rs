//! What a full round shows of an open way beyond that it is open: names, TLS, large packets, the clock.

use std::fmt;

/// How TLS went on a connection that had opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Somebody spoke TLS, with whatever certificate.
    Spoken,
    /// Silence, or the connection was cut off, in the handshake.
    Broken(String),
    /// The certificate is not valid yet. `early`: the router's clock shows a time before this
    /// program was written.
    NotYetValid { early: bool },
}

/// Targets whose TLS must fail before it is the way's fault: one server may be at fault itself.
const TLS_TARGETS: usize = 2;

/// Bound on the targets that a round remembers.
const TARGETS_KEPT: usize = 8;

/// What is wrong with a way that is open, each in words; `None` where nothing is, or nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// No resolver answers over it.
    pub names: Option<String>,
    /// TCP opens, TLS does not work.
    pub tls: Option<String>,
    /// Small packets pass, large ones do not.
    pub large: Option<String>,
    /// Certificates are not valid yet.
    pub clock: Option<String>,
    /// TLS failed in one round; on a line that loses packets that happens by chance, so it counts
    /// when the next round shows the same.
    pub tls_doubt: bool,
}

impl Flaws {
    /// What keeps tailscaled from making its connections anew here: a handshake needs large packets, and TLS.
    pub fn hinders(&self) -> Option<String> {
        let large = self
            .large
            .as_ref()
            .map(|why| ("large packets are lost", why));
        let tls = self.tls.as_ref().map(|why| ("TLS does not work", why));
        large.or(tls).map(|(what, why)| format!("{what} ({why})"))
    }

    /// Those that make an uplink unfit for new connections, without the others.
    pub fn lasting(&self) -> Flaws {
        Flaws {
            names: None,
            clock: None,
            ..self.clone()
        }
    }

    /// True when there is something to be looked at again.
    pub fn any(&self) -> bool {
        *self != Flaws::default()
    }
}

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let named = [
            ("no resolver answers", &self.names),
            ("TLS does not work", &self.tls),
            ("large packets are lost", &self.large),
            ("the clock is wrong", &self.clock),
        ];
        for (what, why) in named {
            if let Some(why) = why {
                write!(f, "; {what} ({why})")?;
            }
        }
        Ok(())
    }
}

/// What came in during one round.
#[derive(Clone, Debug, Default)]
pub struct Clues {
    resolved: bool,
    unresolved: Option<String>,
    spoken: bool,
    broken: Vec<(String, String)>,
    not_yet: Vec<String>,
    early: bool,
    large: Option<Result<(), String>>,
}

impl Clues {
    pub fn names(&mut self, result: &Result<(), String>) {
        match result {
            Ok(()) => self.resolved = true,
            Err(why) => self.unresolved = Some(why.clone()),
        }
    }

    pub fn tls(&mut self, target: &str, end: &Tls) {
        match end {
            Tls::Spoken => self.spoken = true,
            Tls::Broken(why) => {
                let known = self.broken.iter().any(|(t, _)| t == target);
                if !known && self.broken.len() < TARGETS_KEPT {
                    self.broken.push((target.to_string(), why.clone()));
                }
            }
            Tls::NotYetValid { early } => {
                self.early |= early;
                let known = self.not_yet.iter().any(|t| t == target);
                if !known && self.not_yet.len() < TARGETS_KEPT {
                    self.not_yet.push(target.to_string());
                }
            }
        }
    }

    /// A large packet has passed.
    pub fn large_passed(&self) -> bool {
        matches!(self.large, Some(Ok(())))
    }

    pub fn large(&mut self, result: &Result<(), String>) {
        self.large = Some(result.clone());
    }

    /// What the whole round says, after a round that said `before`.
    pub fn read(&self, before: &Flaws) -> Flaws {
        let mut flaws = Flaws::default();
        if !self.resolved {
            flaws.names.clone_from(&self.unresolved);
        }
        if let Some(Err(why)) = &self.large {
            // Handshakes with a long certificate fail then too, and for that reason.
            flaws.large = Some(why.clone());
        } else if self.broken.len() >= TLS_TARGETS && !self.spoken && self.not_yet.is_empty() {
            flaws.tls_doubt = true;
            if before.tls_doubt {
                flaws.tls = self
                    .broken
                    .first()
                    .map(|(target, why)| format!("{target}: {why}"));
            }
        }
        // One certificate may have been made too early; a clock is behind for all of them.
        let behind = self.not_yet.len() >= TLS_TARGETS && !self.spoken;
        if let Some(target) = self.not_yet.first().filter(|_| self.early || behind) {
            flaws.clock = Some(match self.early {
                true => format!(
                    "the certificate of {target} is not valid yet, and the clock is years behind"
                ),
                false => format!("the certificate of {target} is not valid yet, nor any other"),
            });
        }
        flaws
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(ends: &[(&str, Tls)], before: &Flaws) -> Flaws {
        let mut clues = Clues::default();
        for (target, end) in ends {
            clues.tls(target, end);
        }
        clues.read(before)
    }

    fn broken() -> Tls {
        Tls::Broken("no answer".into())
    }

    #[test]
    fn one_resolver_that_answers_is_enough() {
        let mut clues = Clues::default();
        clues.names(&Err("REFUSED".into()));
        assert_eq!(
            clues.read(&Flaws::default()).names,
            Some("REFUSED".to_string())
        );
        clues.names(&Ok(()));
        assert_eq!(clues.read(&Flaws::default()).names, None);
    }

    #[test]
    fn tls_is_broken_when_two_rounds_say_so_of_two_targets() {
        let none = Flaws::default();
        assert!(!tls(&[("a", broken()), ("a", broken())], &none).any());
        let ends = [("a", broken()), ("b", broken())];
        let first = tls(&ends, &none);
        assert!(first.tls_doubt && first.tls.is_none());
        assert_eq!(tls(&ends, &first).tls, Some("a: no answer".to_string()));
        let spoken = [("a", broken()), ("b", broken()), ("c", Tls::Spoken)];
        assert!(!tls(&spoken, &first).any());
    }

    #[test]
    fn lost_large_packets_explain_handshakes_that_fail() {
        let mut clues = Clues::default();
        clues.tls("a", &broken());
        clues.tls("b", &broken());
        clues.large(&Err("16 of 1400 bytes".into()));
        let doubted = Flaws {
            tls_doubt: true,
            ..Flaws::default()
        };
        let flaws = clues.read(&doubted);
        assert!(flaws.large.is_some() && flaws.tls.is_none());
        clues.large(&Ok(()));
        assert!(clues.read(&doubted).tls.is_some());
    }

    #[test]
    fn one_certificate_of_the_future_is_no_wrong_clock_unless_the_clock_is_years_behind() {
        let none = Flaws::default();
        let not_yet = |early| Tls::NotYetValid { early };
        assert!(!tls(&[("a", not_yet(false))], &none).any());
        assert!(tls(&[("a", not_yet(true))], &none).clock.is_some());
        let two = [("a", not_yet(false)), ("b", not_yet(false))];
        assert!(tls(&two, &none).clock.is_some());
        let spoken = [
            ("a", not_yet(false)),
            ("b", not_yet(false)),
            ("c", Tls::Spoken),
        ];
        assert!(!tls(&spoken, &none).any());
    }

    fn all() -> Flaws {
        let why = |text: &str| Some(text.to_string());
        Flaws {
            names: why("n"),
            tls: why("t"),
            large: why("l"),
            clock: why("c"),
            tls_doubt: true,
        }
    }

    #[test]
    fn flaws_are_told_in_a_row_and_two_of_them_hinder() {
        let text = "; no resolver answers (n); TLS does not work (t); large packets are lost (l)";
        assert_eq!(all().to_string(), format!("{text}; the clock is wrong (c)"));
        assert_eq!(Flaws::default().to_string(), "");
        let large = Some("large packets are lost (l)".to_string());
        assert_eq!(all().hinders(), large);
        let tls = Flaws {
            large: None,
            ..all()
        };
        assert_eq!(tls.hinders(), Some("TLS does not work (t)".to_string()));
        let others = Flaws { tls: None, ..tls };
        assert_eq!(others.hinders(), None);
    }

    #[test]
    fn names_and_the_clock_are_no_flaws_that_last() {
        let lasting = Flaws {
            names: None,
            clock: None,
            ..all()
        };
        assert_eq!(all().lasting(), lasting);
        assert!(all().any() && !Flaws::default().any());
    }

    #[test]
    fn a_large_packet_passes_or_does_not() {
        let mut clues = Clues::default();
        assert!(!clues.large_passed());
        clues.large(&Err("lost".into()));
        assert!(!clues.large_passed());
        clues.large(&Ok(()));
        assert!(clues.large_passed());
    }

    #[test]
    fn a_round_remembers_eight_targets_of_each_kind() {
        let mut clues = Clues::default();
        for n in 0..12 {
            clues.tls(&format!("a{n}"), &broken());
            clues.tls(&format!("b{n}"), &Tls::NotYetValid { early: false });
            // Each counts once.
            clues.tls("a0", &broken());
            clues.tls("b0", &Tls::NotYetValid { early: false });
        }
        assert_eq!((clues.broken.len(), clues.not_yet.len()), (8, 8));
    }

    #[test]
    fn a_certificate_that_is_not_valid_yet_explains_handshakes_that_fail() {
        let doubted = Flaws {
            tls_doubt: true,
            ..Flaws::default()
        };
        let ends = [
            ("a", broken()),
            ("b", broken()),
            ("c", Tls::NotYetValid { early: false }),
        ];
        assert!(!tls(&ends, &doubted).any());
        // The clock stays years behind whatever the next certificate says.
        let ends = [
            ("a", Tls::NotYetValid { early: true }),
            ("b", Tls::NotYetValid { early: false }),
            ("c", Tls::Spoken),
        ];
        let text = "the certificate of a is not valid yet, and the clock is years behind";
        let flaws = tls(&ends, &Flaws::default());
        assert_eq!(flaws.clock.as_deref(), Some(text));
        let two = [
            ("a", Tls::NotYetValid { early: false }),
            ("b", Tls::NotYetValid { early: false }),
        ];
        let text = "the certificate of a is not valid yet, nor any other";
        assert_eq!(tls(&two, &Flaws::default()).clock.as_deref(), Some(text));
    }
}
