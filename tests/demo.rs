//! The embedded demonstration, whole.

use afterimage::demo;
use afterimage::progress::Progress;

#[test]
fn the_demonstration_proves_every_step_and_leaves_nothing_behind() {
    let mut lines = Vec::new();
    demo::run(false, &Progress::default(), &mut |line| lines.push(line)).unwrap();
    let steps = lines.iter().filter(|line| line.heading).count();
    assert_eq!(steps, 9, "{lines:#?}");
    assert!(lines.last().unwrap().text.contains("balance 1250"));
    let left = std::env::temp_dir().join(format!("afterimage-demo-{}", std::process::id()));
    assert!(!left.exists());
}
