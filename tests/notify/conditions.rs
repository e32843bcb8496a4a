//! Conditions through any sequence of what may happen.

use crate::common::name;
use afterimage::notify::{
    BEGINS_MAX, Condition, ConditionKey, Observation, STEADY, Severity, Step, UNSTEADY_WINDOW,
    Wrong, observe, pass,
};
use afterimage::units::NotificationId;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Event {
    Found(Option<Severity>),
    /// Minutes; a clock may be set back.
    Passes(i64),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let found = prop_oneof![
        Just(Event::Found(None)),
        Just(Event::Found(Some(Severity::Warning))),
        Just(Event::Found(Some(Severity::Error))),
    ];
    let passes = prop_oneof![8 => 0_i64..30, 2 => 30_i64..200, 1 => -300_i64..0];
    vec(
        prop_oneof![5 => found, 4 => passes.prop_map(Event::Passes), 1 => Just(Event::Restart)],
        1..200,
    )
}

fn found(severity: Option<Severity>) -> Observation {
    let wrong = |severity| Wrong { severity, text: "late".into(), next: None };
    let key = ConditionKey::Late { subject: "machine web01".into() };
    Observation { key, wrong: severity.map(wrong) }
}

/// What is told of one condition.
struct Watch {
    now: Timestamp,
    condition: Option<Condition>,
    told: Vec<(Timestamp, Step)>,
    ids: u8,
}

impl Watch {
    fn new() -> Self {
        let now = "2026-11-28T08:00:00Z".parse().unwrap();
        Self { now, condition: None, told: Vec::new(), ids: 0 }
    }

    fn apply(&mut self, event: Event) {
        self.ids = self.ids.wrapping_add(1);
        let id = NotificationId([self.ids; 16]);
        let change = match event {
            Event::Found(severity) => {
                observe(self.condition.as_ref(), &found(severity), self.now, id)
            }
            Event::Passes(minutes) => {
                self.now += SignedDuration::from_mins(minutes);
                self.condition.as_ref().and_then(|condition| pass(condition, self.now, id))
            }
            Event::Restart => {
                let text = serde_json::to_string(&self.condition).unwrap();
                let read: Option<Condition> = serde_json::from_str(&text).unwrap();
                assert_eq!(read, self.condition);
                None
            }
        };
        if let Some(change) = change {
            self.told.extend(change.telling.map(|(step, _)| (self.now, step)));
            self.condition = Some(change.condition);
        }
    }

    fn is_wrong(&self) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.wrong.is_some())
    }
}

proptest! {
    #[test]
    fn each_condition_begins_once_and_ends_once_and_what_lasts_is_told(events in events()) {
        let mut watch = Watch::new();
        let (mut is_told, mut is_worst) = (false, false);
        for event in events {
            let known = watch.told.len();
            watch.apply(event);
            for (_, step) in &watch.told[known..] {
                match step {
                    Step::Began => prop_assert!(!is_told, "begun twice"),
                    Step::Worse => prop_assert!(is_told && !is_worst, "worse out of turn"),
                    Step::Ended => prop_assert!(is_told, "ended twice"),
                }
                is_told = *step != Step::Ended;
                is_worst = *step == Step::Worse;
            }
        }
        // What stays the same is known to all after an hour.
        watch.apply(Event::Passes(STEADY.as_mins()));
        let last = watch.told.last().map(|(_, step)| *step);
        prop_assert_eq!(watch.is_wrong(), last.is_some_and(|step| step != Step::Ended));
    }

    #[test]
    fn however_it_comes_and_goes_few_words_are_made_of_it(
        steps in vec((any::<bool>(), 0_i64..20), 1..400),
    ) {
        let mut watch = Watch::new();
        for (is_wrong, minutes) in steps {
            watch.apply(Event::Found(is_wrong.then_some(Severity::Error)));
            watch.apply(Event::Passes(minutes));
        }
        let steady = (UNSTEADY_WINDOW.as_hours() / STEADY.as_hours()) as usize;
        let begins: Vec<Timestamp> =
            watch.told.iter().filter(|(_, step)| *step == Step::Began).map(|(at, _)| *at).collect();
        for (first, at) in begins.iter().enumerate() {
            let within = |other: &&Timestamp| other.duration_since(*at) < UNSTEADY_WINDOW;
            let count = begins[first..].iter().take_while(within).count();
            prop_assert!(count <= BEGINS_MAX + steady, "{count} begins in six hours");
        }
    }
}

#[test]
fn what_becomes_worse_is_told_again_and_what_becomes_better_is_not() {
    let mut watch = Watch::new();
    let (warning, error) = (Some(Severity::Warning), Some(Severity::Error));
    for severity in [warning, error, warning, error, None] {
        watch.apply(Event::Found(severity));
    }
    let told: Vec<Step> = watch.told.iter().map(|(_, step)| *step).collect();
    assert_eq!(told, [Step::Began, Step::Worse, Step::Ended]);
}

#[test]
fn each_condition_says_what_it_is_about_when_it_begins_and_ends() {
    let keys = [
        ConditionKey::RunFailed { task: "backup of X".into() },
        ConditionKey::Late { subject: "machine X".into() },
        ConditionKey::Damage { repository: name("X") },
        ConditionKey::Differs { replica: name("X") },
        ConditionKey::Space { path: "X".into() },
    ];
    for key in keys {
        for severity in [Severity::Warning, Severity::Error] {
            assert!(key.title(severity).contains('X'), "{key:?}");
        }
        assert!(key.title_ended().contains('X'), "{key:?}");
    }
    let clock = ConditionKey::Clock;
    assert_ne!(clock.title(Severity::Error), clock.title_ended());
}
