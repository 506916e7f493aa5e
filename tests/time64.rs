//! Times beyond January 2038, which a 32-bit time does not reach.
//!
//! Nothing of this can fail on a 64-bit CPU. On a 32-bit one it does when std is built for the layout of
//! musl 1.1, as is its default; tools/static.sh has the switch, and `make cross` runs this there.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

/// 2040-01-01, in seconds since 1970.
const YEAR_2040: Duration = Duration::from_secs(2_208_988_800);

#[test]
fn a_time_of_2040_comes_back_as_it_was_set() {
    let path = std::env::temp_dir().join(format!("tailover-time64-{}", std::process::id()));
    let time = SystemTime::UNIX_EPOCH + YEAR_2040;
    let file = File::create(&path).expect("a temporary file");
    let set = file.set_modified(time);
    let read = fs::metadata(&path).and_then(|data| data.modified());
    let _ = fs::remove_file(&path);
    set.expect("the time is set");
    assert_eq!(read.expect("the time is read"), time);
}

/// A timer shorter than a second, as the reactor sets it. On big-endian 32-bit CPUs the layout of 64-bit
/// times has a gap before the nanoseconds; who overlooks it sets a timer that never fires.
#[test]
fn a_short_timer_fires() {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        smol::block_on(smol::Timer::after(Duration::from_millis(50)));
        // Nobody waits any more when it fires too late.
        let _ = done.send(());
    });
    let fired = wait.recv_timeout(Duration::from_secs(20));
    assert!(fired.is_ok(), "a timer of 50 ms did not fire within 20 s");
}
