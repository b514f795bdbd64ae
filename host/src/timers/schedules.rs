//! Timers that plugins declare.

use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};

use super::{MAX_NAME_BYTES, Timer};
use crate::{
    clock::now,
    guest::{self, Missed, Rule},
    shorten::shortened,
};

/// How much of what is refused is shown.
const MAX_SHOWN_CHARS: usize = 100;

/// A time that has passed for longer than this has been missed.
const LATE: Duration = Duration::from_secs(10);

/// A schedule, checked.
pub struct Schedule {
    /// Its name.
    pub name: String,
    when: When,
    missed: Missed,
    /// Its rule in words: one with another is another schedule.
    rule: String,
}

enum When {
    Every(u64),
    Cron(Box<Crontab>),
}

/// What is wrong with a schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("its schedule {name:?} is not valid: {reason}")]
pub struct ScheduleError {
    name: String,
    reason: String,
}

impl Schedule {
    /// Checks what a plugin declares.
    pub fn new(schedule: guest::Schedule) -> Result<Self, ScheduleError> {
        let guest::Schedule { name, rule, missed } = schedule;
        let error = |reason: String| ScheduleError {
            name: shortened(&name, MAX_SHOWN_CHARS),
            reason,
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
            let reason = format!("a name has 1 to {MAX_NAME_BYTES} bytes, and no NUL");
            return Err(error(reason));
        }
        let (when, rule) = match rule {
            Rule::Every(0) => return Err(error("it is due every 0 ms".to_owned())),
            Rule::Every(every) => (When::Every(every), format!("every {every} ms")),
            Rule::Cron(expression) => {
                let mut options = ParseOptions::default();
                options.fallback_timezone_option = FallbackTimezoneOption::UTC;
                let crontab = parse_crontab_with(&expression, options)
                    .map_err(|refused| error(refused.to_string()))?;
                (When::Cron(Box::new(crontab)), expression)
            }
        };
        let schedule = Self {
            name,
            when,
            missed,
            rule,
        };
        match schedule.timer(now()) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError {
                name: shortened(&schedule.name, MAX_SHOWN_CHARS),
                reason: "it is never due".to_owned(),
            }),
        }
    }

    /// Its timer, where the one that is stored is this; none if that one is as it should be.
    pub fn renewed(&self, stored: Option<&Timer>) -> Option<Timer> {
        let is_this = |timer: &&Timer| timer.rule.as_ref() == Some(&self.rule);
        match stored.filter(is_this) {
            None => self.timer(now()),
            Some(timer) if timer.given_up || self.has_missed(timer) => self.timer(now()),
            Some(timer) if timer.put_back(now()).is_some() => self.timer(now()),
            Some(_) => None,
        }
    }

    /// Its timer for the next time behind the one that was answered.
    pub fn next(&self, answered: &Timer) -> Option<Timer> {
        match self.when {
            When::Every(every) => Timer {
                every: Some(every),
                ..answered.clone()
            }
            .answered(),
            When::Cron(_) if answered.is_of_a_former_clock(now()) => self.timer(now()),
            // However late it was: each time is told once.
            When::Cron(_) => self.timer(now().max(answered.due)),
        }
    }

    /// Whether it passes over a time that has been missed.
    fn has_missed(&self, timer: &Timer) -> bool {
        let late = Duration::from_millis(now().saturating_sub(timer.due));
        matches!(self.missed, Missed::Skip) && timer.failures == 0 && late > LATE
    }

    fn timer(&self, after: u64) -> Option<Timer> {
        let due = match &self.when {
            When::Every(every) => after.saturating_add(*every),
            When::Cron(crontab) => {
                let after = MakeTimestamp::from_millisecond(i64::try_from(after).ok()?).ok()?;
                let next = crontab.find_next(after).ok()?;
                u64::try_from(next.timestamp().as_millisecond()).ok()?
            }
        };
        Some(Timer {
            rule: Some(self.rule.clone()),
            since: Some(now()),
            ..Timer::new(due, "null".to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rule: Rule, missed: Missed) -> Result<Schedule, ScheduleError> {
        Schedule::new(guest::Schedule {
            name: "s".into(),
            rule,
            missed,
        })
    }

    fn cron(expression: &str) -> Result<Schedule, ScheduleError> {
        schedule(Rule::Cron(expression.into()), Missed::Once)
    }

    #[test]
    fn a_schedule_is_due_by_the_clocks_of_its_zone() {
        // 2026-03-29 02:00 is not there in Berlin: clocks go from 02:00 to 03:00.
        let before = 1_774_742_400_000; // 2026-03-29T00:00:00Z, 01:00 there
        for (expression, expected) in [
            ("0 9 * * * Europe/Berlin", 1_774_767_600_000_u64), // 07:00Z
            ("0 9 * * *", 1_774_774_800_000),                   // 09:00Z
            ("*/15 * * * * UTC", 1_774_743_300_000),
        ] {
            let timer = cron(expression).unwrap().timer(before).unwrap();
            assert_eq!(timer.due, expected, "{expression}");
        }
    }

    #[test]
    fn what_clocks_show_twice_comes_twice_and_what_they_pass_over_does_not() {
        let nightly = cron("30 2 * * * Europe/Berlin").unwrap();
        let due = |after| nightly.timer(after).unwrap().due;
        let autumn = 1_792_886_400_000; // 2026-10-25T00:00:00Z, 02:00 there
        let first = due(autumn);
        assert_eq!(first, autumn + 30 * 60_000);
        assert_eq!(due(first), first + 60 * 60_000);
        let spring = 1_774_742_400_000; // 2026-03-29T00:00:00Z, 01:00 there, and two hours later 03:00
        assert_eq!(due(spring), spring + 86_400_000 + 30 * 60_000);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (rule, reason) in [
            (Rule::Every(0), "it is due every 0 ms"),
            (Rule::Cron("every day".into()), ""),
            (Rule::Cron("0 9 * * * Mars/Base".into()), ""),
            (Rule::Cron("61 9 * * *".into()), ""),
            (Rule::Cron("0 0 30 2 *".into()), "it is never due"),
        ] {
            let error = schedule(rule, Missed::Skip).err().unwrap();
            assert!(error.reason.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_was_missed_is_told_once_or_passed_over() {
        let late = |missed| {
            let schedule = schedule(Rule::Every(60_000), missed).unwrap();
            let mut timer = schedule.timer(now()).unwrap();
            timer.due -= 3_600_000;
            timer.at = timer.due;
            schedule.renewed(Some(&timer))
        };
        assert!(late(Missed::Once).is_none());
        assert!(late(Missed::Skip).unwrap().due > now());
    }

    #[test]
    fn what_was_called_before_the_clock_has_gone_back_counts_by_the_clock_of_now() {
        let daily = cron("0 12 * * *").unwrap();
        let ahead = |ms| Timer::new(now() + ms, "null".into());
        let day = 86_400_000;
        assert!(daily.next(&ahead(30 * day)).unwrap().due <= now() + day);
        // By so little clocks are put right all the time, and no time is told twice.
        let next = daily.timer(now()).unwrap();
        let told = ahead(5_000);
        assert!(daily.next(&told).unwrap().due > told.due.max(next.due - 1));
    }

    #[test]
    fn another_rule_is_another_timer() {
        let hourly = schedule(Rule::Every(3_600_000), Missed::Once).unwrap();
        let daily = schedule(Rule::Every(86_400_000), Missed::Once).unwrap();
        let timer = hourly.renewed(None).unwrap();
        assert!(hourly.renewed(Some(&timer)).is_none());
        assert!(daily.renewed(Some(&timer)).unwrap().due > timer.due);
    }
}
