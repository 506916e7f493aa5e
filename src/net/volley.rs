//! Datagrams sent on a schedule until one of them is answered: how STUN servers and resolvers are asked.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use smol::{Async, Timer};

/// Pause after a read that failed.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// No answer to a question of ours is longer: both protocols fit an Ethernet frame.
const BUFFER: usize = 1500;

/// When the datagrams of a volley go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub count: u16,
    /// From one to the next.
    pub spacing: Duration,
}

impl Schedule {
    /// When each datagram is sent, counted from the start.
    pub fn times(self) -> impl Iterator<Item = Duration> {
        (0..self.count).map(move |n| self.spacing.saturating_mul(n.into()))
    }
}

/// A datagram that the kernel took.
struct Sent {
    number: u16,
    to: SocketAddr,
    at: Instant,
}

/// The answer to one datagram of a volley.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<T> {
    pub what: T,
    /// Who answered.
    pub server: SocketAddr,
    /// From sending the datagram that this answers to receiving the answer.
    pub rtt: Duration,
}

/// What came of a volley.
#[derive(Debug)]
pub struct Volley<T> {
    /// The first valid answer, if any came.
    pub answer: Option<Answer<T>>,
    /// Datagrams the kernel took.
    pub sent: u32,
    /// Datagrams the kernel refused, for example because there is no route.
    pub refused: u32,
    /// The last refusal.
    pub refusal: Option<io::Error>,
}

impl<T> Volley<T> {
    /// True when the kernel found a datagram too long for the link, or for the path as far as a
    /// router on it has told: nothing is lost without a word then.
    pub fn too_long(&self) -> bool {
        let errno = self.refusal.as_ref().and_then(Errno::from_io_error);
        errno == Some(Errno::MSGSIZE)
    }
}

/// Sends the datagrams that `datagram` makes of their numbers, each to the server it names, and
/// ends at the first valid answer, or `timeout` after the start.
///
/// `read` gets each packet that comes, and gives what it says and the number of the datagram that
/// it answers. It counts only from the server which that datagram was sent to.
pub async fn volley<T>(
    socket: &Async<UdpSocket>,
    schedule: Schedule,
    timeout: Duration,
    datagram: impl Fn(u16) -> (Vec<u8>, SocketAddr),
    mut read: impl FnMut(&[u8]) -> Option<(u16, T)>,
) -> Volley<T> {
    let mut result = Volley {
        answer: None,
        sent: 0,
        refused: 0,
        refusal: None,
    };
    let mut sent: Vec<Sent> = Vec::with_capacity(usize::from(schedule.count));
    let began = Instant::now();
    let deadline = began.checked_add(timeout).unwrap_or(began);
    let mut times = (0..schedule.count).zip(schedule.times()).peekable();
    loop {
        if let Some((number, _)) = times.next() {
            let (bytes, to) = datagram(number);
            match socket.get_ref().send_to(&bytes, to) {
                Ok(_) => {
                    result.sent = result.sent.saturating_add(1);
                    let at = Instant::now();
                    sent.push(Sent { number, to, at });
                }
                Err(e) => {
                    result.refused = result.refused.saturating_add(1);
                    result.refusal = Some(e);
                }
            }
        }
        let until = match times.peek() {
            Some((_, due)) => began
                .checked_add(*due)
                .map_or(deadline, |at| at.min(deadline)),
            // Nothing left on the way: nothing to wait for.
            None if sent.is_empty() => return result,
            None => deadline,
        };
        let heard = smol::future::or(first_valid(socket, &sent, &mut read), async {
            Timer::at(until).await;
            None
        })
        .await;
        if heard.is_some() || Instant::now() >= deadline {
            result.answer = heard;
            return result;
        }
    }
}

/// Waits for an answer to one of the datagrams sent. Never ends without one.
async fn first_valid<T>(
    socket: &Async<UdpSocket>,
    sent: &[Sent],
    read: &mut impl FnMut(&[u8]) -> Option<(u16, T)>,
) -> Option<Answer<T>> {
    loop {
        // The buffer is on the stack: in this future there would be one for each volley under way.
        let heard = socket.read_with(|socket| {
            let mut buffer = [0u8; BUFFER];
            let (length, from) = socket.recv_from(&mut buffer)?;
            Ok((buffer.get(..length).and_then(&mut *read), from))
        });
        let Ok((heard, from)) = heard.await else {
            // Perhaps about an earlier datagram: the others may yet be answered. The pause keeps
            // an error that stays from taking the whole thread.
            Timer::after(ERROR_PAUSE).await;
            continue;
        };
        let Some((number, what)) = heard else {
            continue;
        };
        if let Some(asked) = sent.iter().find(|s| s.number == number && s.to == from) {
            return Some(Answer {
                what,
                server: from,
                rtt: asked.at.elapsed(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_begins_at_once_and_is_even() {
        let schedule = Schedule {
            count: 3,
            spacing: Duration::from_millis(60),
        };
        let times: Vec<u128> = schedule.times().map(|t| t.as_millis()).collect();
        assert_eq!(times, [0, 60, 120]);
    }
}
