//! The wall clock of the place, for people.
//!
//! OpenWrt writes the zone to /etc/TZ as POSIX says it (`CET-1CEST,M3.5.0,M10.5.0/3`), or links
//! /etc/localtime to a zone of the zoneinfo packages, whose last line says the same (RFC 8536). Its
//! musl is patched to read the former (toolchain/musl/patches/110-read_timezone_from_fs.patch); that of
//! a static program is not, and does not know the zone. So it is read here.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

const DAY: i64 = 86_400;

/// The longest zone file; the largest of tzdata has 3.5 kB.
const MOST: u64 = 64 * 1024;

/// A rule for the day on which a time begins, and the second of that day.
#[derive(Debug, Clone, Copy)]
struct Change {
    kind: Kind,
    second: i64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Month, week of it (5: the last), day of the week (0: Sunday).
    Week(i64, i64, i64),
    /// Day of the year from 1, the 29th of February never counted.
    Julian(i64),
    /// Day of the year from 0.
    Day(i64),
}

/// A time zone.
#[derive(Debug, Clone, Copy)]
pub struct Zone {
    /// Seconds east of Greenwich.
    offset: i64,
    /// The same in summer, from when, and until when.
    summer: Option<(i64, Change, Change)>,
    /// Whether any was found; else times are told as UTC.
    known: bool,
}

impl Zone {
    /// That of `TZ`, of /etc/TZ, of /etc/localtime, in the order of OpenWrt's C library; else UTC.
    pub fn of_here() -> Zone {
        let named = std::env::var("TZ").unwrap_or_default();
        let of_file = |path: &Path| {
            let mut bytes = Vec::new();
            let file = File::open(path).ok()?;
            file.take(MOST).read_to_end(&mut bytes).ok()?;
            let text = String::from_utf8_lossy(&bytes);
            Zone::parse(text.trim_end().rsplit('\n').next()?)
        };
        let name = named.trim_start_matches(':');
        let of_name = || {
            let folder = Path::new("/usr/share/zoneinfo");
            (!name.is_empty()).then(|| of_file(&folder.join(name)))?
        };
        let files = || {
            ["/etc/TZ", "/etc/localtime"]
                .iter()
                .find_map(|p| of_file(Path::new(p)))
        };
        let utc = Zone {
            offset: 0,
            summer: None,
            known: false,
        };
        // A wrong TZ means UTC, as in the C library.
        match name.is_empty() {
            true => files(),
            false => Zone::parse(name).or_else(of_name),
        }
        .unwrap_or(utc)
    }

    /// A POSIX TZ string.
    fn parse(text: &str) -> Option<Zone> {
        let mut rest = text;
        name(&mut rest)?;
        // POSIX counts westward.
        let offset = -time(&mut rest)?;
        let mut zone = Zone {
            offset,
            summer: None,
            known: true,
        };
        if rest.is_empty() {
            return Some(zone);
        }
        name(&mut rest)?;
        let summer = match rest.is_empty() || rest.starts_with(',') {
            true => offset + 3600,
            false => -time(&mut rest)?,
        };
        if rest.is_empty() {
            // Nothing is said: the rules of the United States, as in the C libraries.
            rest = ",M3.2.0,M11.1.0";
        }
        let (from, until) = (change(&mut rest)?, change(&mut rest)?);
        zone.summer = Some((summer, from, until));
        rest.is_empty().then_some(zone)
    }

    /// Seconds east of Greenwich at a Unix time.
    fn offset_at(&self, unix: i64) -> i64 {
        let Some((summer, from, until)) = &self.summer else {
            return self.offset;
        };
        let (year, ..) = date((unix + self.offset).div_euclid(DAY));
        // The one is told in winter time, the other in summer time.
        let from = from.at(year) - self.offset;
        let until = until.at(year) - summer;
        let is_summer = match from < until {
            true => (from..until).contains(&unix),
            // South of the equator.
            false => !(until..from).contains(&unix),
        };
        if is_summer {
            *summer
        } else {
            self.offset
        }
    }

    /// `2026-11-26 03:38:57`, with ` UTC` behind it where no zone was found.
    pub fn tell(&self, unix: i64) -> String {
        let local = unix + self.offset_at(unix);
        let (year, month, day) = date(local.div_euclid(DAY));
        let second = local.rem_euclid(DAY);
        let utc = if self.known { "" } else { " UTC" };
        format!(
            "{year}-{month:02}-{day:02} {:02}:{:02}:{:02}{utc}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// The nearest whole number of seconds; of what is none, 0.
#[allow(
    clippy::cast_possible_truncation,
    reason = "it saturates, and NaN gives 0"
)]
pub fn whole(seconds: f64) -> i64 {
    seconds.round() as i64
}

/// The Unix time.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or_default())
}

impl Change {
    /// When it comes in a year, in local seconds since 1970.
    fn at(&self, year: i64) -> i64 {
        let first = days(year, 1, 1);
        let leap = days(year, 3, 1) - first == 60;
        let day = match self.kind {
            Kind::Day(n) => first + n,
            Kind::Julian(n) => first + n - i64::from(!(leap && n >= 60)),
            Kind::Week(month, week, weekday) => {
                let begin = days(year, month, 1);
                // 1970 began on a Thursday.
                let ahead = (weekday - begin - 4).rem_euclid(7);
                let length = days(year + month / 12, month % 12 + 1, 1) - begin;
                let day = ahead + 7 * (week - 1);
                begin + if day >= length { day - 7 } else { day }
            }
        };
        day * DAY + self.second
    }
}

/// Days from 1970 to a date of the Gregorian calendar. The year is taken from March on, so that the
/// leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month < 3);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 719_468
}

/// The date of a day counted from 1970.
fn date(day: i64) -> (i64, i64, i64) {
    // At most a year too late: 146,097 days are 400 years.
    let mut year = (day * 400).div_euclid(146_097) + 1970;
    while days(year, 1, 1) > day {
        year -= 1;
    }
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let mut month = 12;
    while days(year, month, 1) > day {
        month -= 1;
    }
    (year, month, day - days(year, month, 1) + 1)
}

/// Takes a zone's name: letters, or anything in `<>`.
fn name(rest: &mut &str) -> Option<()> {
    let length = match rest.strip_prefix('<') {
        Some(quoted) => quoted.find('>')? + 2,
        None => rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len()),
    };
    *rest = rest.get(length..)?;
    (length >= 3).then_some(())
}

/// Takes a number below 1000.
fn number(rest: &mut &str) -> Option<i64> {
    let mut number = None;
    while let Some(digit) = rest.bytes().next().filter(u8::is_ascii_digit) {
        number = Some(number.unwrap_or(0) * 10 + i64::from(digit - b'0')).filter(|n| *n < 1000);
        number?;
        *rest = rest.get(1..)?;
    }
    number
}

/// Takes `[+-]hours[:minutes[:seconds]]` as seconds.
fn time(rest: &mut &str) -> Option<i64> {
    let sign = if rest.starts_with('-') { -1 } else { 1 };
    *rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    let mut seconds = number(rest)? * 3600;
    for unit in [60, 1] {
        let Some(more) = rest.strip_prefix(':') else {
            break;
        };
        *rest = more;
        seconds += number(rest)? * unit;
    }
    Some(sign * seconds)
}

/// Takes `,DAY[/TIME]`.
fn change(rest: &mut &str) -> Option<Change> {
    *rest = rest.strip_prefix(',')?;
    let kind = if let Some(more) = rest.strip_prefix('M') {
        *rest = more;
        let mut fields = [0; 3];
        for (i, (field, range)) in fields.iter_mut().zip([1..=12, 1..=5, 0..=6]).enumerate() {
            if i > 0 {
                *rest = rest.strip_prefix('.')?;
            }
            *field = number(rest).filter(|n| range.contains(n))?;
        }
        let [month, week, day] = fields;
        Kind::Week(month, week, day)
    } else if let Some(more) = rest.strip_prefix('J') {
        *rest = more;
        Kind::Julian(number(rest).filter(|n| (1..=365).contains(n))?)
    } else {
        Kind::Day(number(rest).filter(|n| *n < 366)?)
    };
    let second = match rest.strip_prefix('/') {
        Some(more) => {
            *rest = more;
            time(rest)?
        }
        None => 2 * 3600,
    };
    Some(Change { kind, second })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(zone: &str, unix: i64) -> String {
        Zone::parse(zone).expect("a zone").tell(unix)
    }

    // The instants are those of tzdata, as `date -d @UNIX` tells them with TZ set to the zone's name.
    #[test]
    fn summer_begins_and_ends_north_and_south_of_the_equator() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        let auckland = "NZST-12NZDT,M9.5.0,M4.1.0/3";
        let new_york = "EST5EDT,M3.2.0,M11.1.0";
        let lord_howe = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
        for (zone, unix, text) in [
            (berlin, 1_774_745_999, "2026-03-29 01:59:59"),
            (berlin, 1_774_746_000, "2026-03-29 03:00:00"),
            (berlin, 1_792_889_999, "2026-10-25 02:59:59"),
            (berlin, 1_792_890_000, "2026-10-25 02:00:00"),
            (auckland, 1_775_311_199, "2026-04-05 02:59:59"),
            (auckland, 1_775_311_200, "2026-04-05 02:00:00"),
            (auckland, 1_790_431_199, "2026-09-27 01:59:59"),
            (auckland, 1_790_431_200, "2026-09-27 03:00:00"),
            (auckland, 1_798_718_400, "2027-01-01 01:00:00"),
            (new_york, 1_772_953_199, "2026-03-08 01:59:59"),
            (new_york, 1_772_953_200, "2026-03-08 03:00:00"),
            (new_york, 1_793_512_799, "2026-11-01 01:59:59"),
            (new_york, 1_793_512_800, "2026-11-01 01:00:00"),
            ("EST5EDT", 1_793_512_800, "2026-11-01 01:00:00"),
            (lord_howe, 1_775_314_799, "2026-04-05 01:59:59"),
            (lord_howe, 1_775_314_800, "2026-04-05 01:30:00"),
            (lord_howe, 1_791_041_400, "2026-10-04 02:30:00"),
        ] {
            assert_eq!(told(zone, unix), text, "{zone} {unix}");
        }
    }

    #[test]
    fn rules_by_the_day_of_the_year_and_odd_times_hold() {
        for (zone, unix, text) in [
            ("UTC0", 0, "1970-01-01 00:00:00"),
            ("<-03>3", 1_772_323_200, "2026-02-28 21:00:00"),
            ("IST-5:30", 1_709_164_800, "2024-02-29 05:30:00"),
            // Summer all the year, as RFC 8536 writes it.
            ("XXX3EDT4,0/0,J365/23", 1_767_243_600, "2026-01-01 01:00:00"),
            // J60 is the 1st of March, 60 the 1st of it in a leap year alone.
            ("AAA0BBB,J60/0,J365/0", 1_709_251_199, "2024-02-29 23:59:59"),
            ("AAA0BBB,J60/0,J365/0", 1_709_251_200, "2024-03-01 01:00:00"),
            ("AAA0BBB,60/0,J365/0", 1_709_251_200, "2024-03-01 01:00:00"),
            ("AAA0BBB,60/0,J365/0", 1_772_323_200, "2026-03-01 00:00:00"),
            // Greenland: on the day before, in its own count.
            (
                "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
                1_774_745_999,
                "2026-03-28 22:59:59",
            ),
            (
                "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
                1_774_746_000,
                "2026-03-29 00:00:00",
            ),
        ] {
            assert_eq!(told(zone, unix), text, "{zone} {unix}");
        }
    }

    #[test]
    fn every_day_has_its_date_and_nonsense_is_no_zone() {
        for day in -200_000..200_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
            assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
        }
        for text in [
            "",
            "CET",
            "-1",
            "CET-1CEST,",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M13.5.0,M10.5.0",
            "CET-1CEST,M3.5.0,M10.5.0/3x",
            "<CET-1",
            "CET-99999999999999999999",
            "TZif2\0",
            "C\u{e9}T-1",
        ] {
            assert!(Zone::parse(text).is_none(), "{text}");
        }
    }
}
