//! Choosing a point, in every form that a user may write.

use super::*;
use crate::point::Point;
use crate::testing::{machine, point};
use crate::units::PointId;
use jiff::tz::{TimeZone, offset};

fn points() -> Vec<Point> {
    // The clock went back between the second and the third.
    let mut points = vec![point(0xaa, 1, 1000, &[]), point(0xab, 2, 3000, &[])];
    points.extend([point(0xcd, 3, 2000, &[]), point(0xce, 7, 4000, &[])]);
    points[1].id = PointId([0xaa; 32]);
    points[1].id.0[2] = 0xbb;
    points
}

fn choose(text: &str) -> Result<u64, ChoosePointError> {
    let points = points();
    let choice = PointChoice::parse(text, &TimeZone::fixed(offset(1)))?;
    choose_point(&points, &machine(), &choice).map(|point| point.manifest.sequence.0)
}

#[test]
fn each_form_names_the_point_that_it_says() {
    for (text, expected) in [
        ("latest", 7),
        ("#1", 1),
        ("#7", 7),
        ("cdcd", 3),
        ("CECE", 7),
        ("aaaabb", 2),
        ("1970-01-01T00:16:40Z", 1),
        // The newest by its time, whatever its number.
        ("1970-01-01T00:59:00Z", 2),
        ("1970-01-01T00:40:00Z", 3),
        // Without a zone it is the user's: an hour ahead.
        ("1970-01-01 01:40", 3),
        ("2030-01-01", 7),
    ] {
        assert_eq!(choose(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_names_no_point_or_several_is_refused() {
    for text in ["", "newest", "#", "#x", "#-1", "abc", "zzzz", "1970-13-01"] {
        assert!(matches!(choose(text), Err(ChoosePointError::NotAChoice { .. })), "{text}");
    }
    for text in ["#4", "#0", "dddd", "1970-01-01T00:16:39Z"] {
        assert!(matches!(choose(text), Err(ChoosePointError::NoSuchPoint { .. })), "{text}");
    }
    assert!(matches!(choose("aaaa"), Err(ChoosePointError::Ambiguous { count: 2, .. })));
    let none = choose_point(&[], &machine(), &PointChoice::Latest);
    assert!(matches!(none, Err(ChoosePointError::NoPoints { .. })));
}
