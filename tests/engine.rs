//! The main job, through the library: back up, replicate, bring back an older point.

mod common;

use afterimage::replay::Replicated;
use common::{World, noise};

#[test]
fn a_machine_is_backed_up_replicated_and_brought_back() {
    for encrypted in [false, true] {
        let world = World::new(&["root", "data"], encrypted);
        let mut root = noise(1, 40 << 20);
        root[5 << 20..25 << 20].fill(0);
        let data = noise(2, (3 << 20) + 777);
        world.write_disk("root", &root);
        world.write_disk("data", &data);
        let first = world.backup().unwrap();
        assert!(matches!(world.replicate("standby").unwrap(), Replicated::Seeded { .. }));
        assert!(world.replica_disk("standby", "root") == root);
        assert!(world.replica_disk("standby", "data") == data);
        assert!(matches!(world.replicate("standby").unwrap(), Replicated::Skipped { .. }));

        let mut changed = root.clone();
        changed[100..5000].copy_from_slice(&noise(3, 4900));
        changed[30 << 20..31 << 20].fill(0);
        changed[10 << 20..(10 << 20) + 70_000].copy_from_slice(&noise(4, 70_000));
        world.write_disk("root", &changed);
        let second = world.backup().unwrap();
        assert_eq!(second.point.manifest.parent, Some(first.point.id));
        let replicated = world.replicate("standby").unwrap();
        assert!(matches!(replicated, Replicated::Replayed { .. }), "{replicated:?}");
        assert!(world.replica_disk("standby", "root") == changed);
        assert!(world.replica_disk("standby", "data") == data);

        assert!(world.restored(&first.point, "root") == root);
        assert!(world.restored(&second.point, "root") == changed);
        assert!(world.restored(&first.point, "data") == data);
        world.check_catalog();
    }
}
