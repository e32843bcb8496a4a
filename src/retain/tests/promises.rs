//! What holds for all points and rules.

use super::*;
use proptest::prelude::*;

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Asia/Beirut",
    "Australia/Lord_Howe",
];

#[derive(Debug, Clone)]
struct Case {
    points: Vec<Candidate>,
    protected: Protected,
    zone: TimeZone,
    now: Timestamp,
}

/// Points that lie close together and far apart, some of them protected.
fn cases() -> impl Strategy<Value = Case> {
    let step = prop_oneof![0_i64..3, 600_i64..7200, 40_000_i64..200_000, 1_000_000_i64..40_000_000];
    let steps = prop::collection::vec((step, 0_u8..12), 0..60);
    (steps, 0_usize..ZONES.len(), 0_i64..100_000).prop_map(|(steps, zone, later)| {
        let mut at = time("2026-03-01T00:00Z").as_second();
        let (mut times, mut protected) = (Vec::new(), Protected::new());
        for ((step, protection), number) in steps.into_iter().zip(1..) {
            at += step;
            times.push(Timestamp::from_second(at).unwrap());
            let protection = match protection {
                0 => Protection::Pinned { note: None },
                1 => Protection::Locked { until: Timestamp::from_second(at + 50_000).unwrap() },
                2 => Protection::SyncPoint { replica: "standby".parse().unwrap() },
                _ => continue,
            };
            protected.insert(id(number), [protection].into());
        }
        let now = Timestamp::from_second(at + later).unwrap();
        let zone = TimeZone::get(ZONES[zone]).unwrap();
        Case { points: candidates(&times), protected, zone, now }
    })
}

fn rules() -> impl Strategy<Value = Keep> {
    let count = || prop_oneof![Just(0_u32), 1_u32..6];
    let within = prop::option::of((1_u64..5_000_000).prop_map(std::time::Duration::from_secs));
    (count(), count(), count(), count(), count(), count(), within).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, within)| Keep {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
        },
    )
}

impl Case {
    fn decide(&self, keep: &Keep) -> Vec<Decision> {
        decide(&self.points, keep, &self.protected, &self.zone, self.now).unwrap()
    }

    fn kept(&self, keep: &Keep) -> BTreeSet<PointId> {
        self.decide(keep).iter().filter(|it| it.is_kept()).map(|it| it.point.id).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_larger_number_removes_nothing_more(case in cases(), keep in rules(), which in 0_usize..6) {
        let mut more = keep.clone();
        let counts = [
            &mut more.last,
            &mut more.hourly,
            &mut more.daily,
            &mut more.weekly,
            &mut more.monthly,
            &mut more.yearly,
        ];
        *counts.into_iter().nth(which).unwrap() += 1;
        prop_assert!(case.kept(&keep).is_subset(&case.kept(&more)));
    }

    #[test]
    fn what_is_protected_never_goes_and_is_counted_by_no_rule(case in cases(), keep in rules()) {
        let decisions = case.decide(&keep);
        let newest = case.points.last().map(|point| point.id);
        for decision in &decisions {
            let is_newest = Some(decision.point.id) == newest;
            let holds = |protection: &Protection| match protection {
                Protection::Locked { until } => case.now < *until,
                _ => true,
            };
            let given = case.protected.get(&decision.point.id).into_iter().flatten();
            let is_protected = is_newest || given.into_iter().any(holds);
            prop_assert_eq!(decision.is_protected(), is_protected);
            if is_protected {
                prop_assert!(decision.is_kept());
                let by_rule = |why: &super::super::Reason| {
                    !matches!(why, super::super::Reason::Protected(_))
                };
                prop_assert!(!decision.reasons.iter().any(by_rule));
            }
        }
        // Without the protected points, the rules decide the same on the others.
        let mut others = case.clone();
        let is_free = |point: &Candidate| {
            decisions.iter().any(|it| it.point == *point && !it.is_protected())
        };
        others.points.retain(is_free);
        let Some(newest) = others.points.last().copied() else { return Ok(()) };
        let after = Candidate { id: id(999), sequence: Sequence(999), time: newest.time };
        others.points.push(after);
        others.protected.clear();
        let free = |decisions: &[Decision]| -> Vec<Decision> {
            decisions.iter().filter(|it| !it.is_protected()).cloned().collect()
        };
        prop_assert_eq!(free(&others.decide(&keep)), free(&decisions));
    }

    #[test]
    fn the_order_of_the_points_does_not_matter(
        case in cases(),
        keep in rules(),
        turn in 0_usize..60,
    ) {
        let mut turned = case.clone();
        let by = turn % turned.points.len().max(1);
        turned.points.rotate_left(by);
        turned.points[..by / 2].reverse();
        prop_assert_eq!(turned.decide(&keep), case.decide(&keep));
    }

    #[test]
    fn what_was_kept_is_kept_for_the_same_reasons_once_the_rest_is_gone(
        case in cases(),
        keep in rules(),
    ) {
        let first = case.decide(&keep);
        let kept: Vec<Decision> = first.into_iter().filter(Decision::is_kept).collect();
        let mut rest = case.clone();
        rest.points = kept.iter().map(|it| it.point).collect();
        prop_assert_eq!(rest.decide(&keep), kept);
    }
}
