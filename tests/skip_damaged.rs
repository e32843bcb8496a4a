//! A restore that goes on past damage: exactly what it says is missing is missing.

mod common;

use afterimage::destination::Damaged;
use afterimage::point::Point;
use afterimage::scrub::Scope;
use common::World;
use common::template::{Contents, Template, forget_catalog, lost_points, verify};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn packs(template: &Template) -> Vec<PathBuf> {
    let is_pack = |path: &PathBuf| path.to_str().unwrap().contains("/packs/");
    template.targets().into_iter().filter(is_pack).collect()
}

/// The ranges in the map beside an image; none when there is no map.
fn map(world: &World, disk: &str, point: &Point) -> Vec<(usize, usize)> {
    let path = world.path(&format!("restored/{disk}.raw.missing.json"));
    let Ok(text) = std::fs::read(path) else { return Vec::new() };
    let map: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(map["disk"], disk);
    assert_eq!(map["point"], point.id.to_string());
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let ranges = map["ranges"].as_array().unwrap().iter();
    let ranges: Vec<_> = ranges.map(|it| (number(&it["start"]), number(&it["end"]))).collect();
    let bytes: usize = ranges.iter().map(|(start, end)| end - start).sum();
    assert_eq!(number(&map["missing_bytes"]), bytes);
    ranges
}

/// Restores what can be restored of each point and holds it against the map and the verification.
fn check(template: &Template, files: &common::files::Files, what: &str) -> usize {
    let mut world = template.lay_out(files);
    forget_catalog(&world);
    let lost = lost_points(template, &world, what);
    world.damaged = Damaged::Skip;
    let verdict = verify(&world, Scope::All).unwrap();
    let mut incomplete = BTreeSet::new();
    for (point, contents) in &template.points {
        world.restore(point, "restored").unwrap_or_else(|e| panic!("{what}: {e}"));
        for (disk, content) in contents {
            let ranges = map(&world, disk, point);
            if !ranges.is_empty() {
                incomplete.insert(point.id);
            }
            let found = std::fs::read(world.path(&format!("restored/{disk}.raw"))).unwrap();
            differs_exactly_in(&found, content, &ranges, &format!("{what}, {disk}"));
            let told = verdict.points.iter().find(|it| it.id == point.id).unwrap();
            let told = told.harmed.iter().find(|it| it.name.as_str() == disk);
            let told: Vec<_> = told.map_or(Vec::new(), |disk| {
                disk.ranges.iter().map(|it| (it.start() as usize, it.end() as usize)).collect()
            });
            // The verification does not say of holes in what a lost node covers that they are.
            assert_eq!(told, ranges, "{what}, {disk}");
        }
    }
    assert_eq!(incomplete, lost, "{what}");
    lost.len()
}

fn differs_exactly_in(found: &[u8], content: &[u8], ranges: &[(usize, usize)], what: &str) {
    assert_eq!(found.len(), content.len(), "{what}");
    let mut at = 0;
    for &(start, end) in ranges {
        assert!(found[at..start] == content[at..start], "{what}: between {at} and {start}");
        assert!(found[start..end].iter().all(|byte| *byte == 0), "{what}: {start} to {end}");
        assert!(found[start..end] != content[start..end], "{what}: {start} to {end} is right");
        at = end;
    }
    assert!(found[at..] == content[at..], "{what}: after {at}");
}

fn sweep(encrypted: bool) {
    let template = Template::new(encrypted);
    let mut lost = 0;
    for pack in packs(&template) {
        let len = template.files[&pack].len();
        for at in [0, 70, len / 3, len / 2, len - 200, len - 1] {
            let mut files = template.files.clone();
            files.get_mut(&pack).unwrap()[at] ^= 4;
            lost += check(&template, &files, &format!("{} at {at}", pack.display()));
        }
        let mut files = template.files.clone();
        files.remove(&pack);
        lost += check(&template, &files, &format!("{} removed", pack.display()));
    }
    assert!(lost > 20, "only {lost} points were damaged");
}

#[test]
fn exactly_what_the_map_lists_is_missing() {
    sweep(false);
}

#[test]
fn exactly_what_the_map_lists_is_missing_from_an_encrypted_repository() {
    sweep(true);
}

#[test]
fn a_map_goes_when_nothing_is_missing_any_more() {
    let template = Template::new(false);
    let mut world = template.lay_out(&template.files);
    world.damaged = Damaged::Skip;
    let (point, _): &(Point, Contents) = &template.points[0];
    std::fs::create_dir(world.path("restored")).unwrap();
    let map = world.path("restored/root.raw.missing.json");
    std::fs::write(&map, "{}").unwrap();
    world.restore(point, "restored").unwrap();
    assert!(!Path::new(&map).exists());
}
