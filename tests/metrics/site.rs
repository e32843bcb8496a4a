//! A folder with settings, a machine, its replica and a repository.

use afterimage::operations::{
    InitChoice, Reading, StatusReport, backup_machine, init, replicate, status,
};
use afterimage::progress::Progress;
use afterimage::settings::Settings;
use afterimage::units::Name;
use jiff::{SignedDuration, Timestamp};

pub struct Site {
    pub folder: tempfile::TempDir,
    pub settings: Settings,
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

impl Site {
    /// Machines that are called so, each with a replica, all with an rpo; none was backed up yet.
    pub fn new(machines: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\n\
                        encryption = \"none\"\n"
            .to_owned();
        for machine in machines {
            text += &format!(
                "[machine.{machine}]\nrepository = \"main\"\nrpo = \"1h\"\n\
                 [[machine.{machine}.disk]]\nname = \"root\"\n\
                 source = {{ image = \"{machine}.img\" }}\n\
                 [replica.{machine}-copy]\nmachine = \"{machine}\"\ntrigger = \"after-backup\"\n\
                 rpo = \"2h\"\n[[replica.{machine}-copy.disk]]\nname = \"root\"\n\
                 target = {{ image = \"{machine}-copy/root.raw\" }}\n"
            );
            std::fs::write(folder.path().join(format!("{machine}.img")), [7_u8; 65_536]).unwrap();
        }
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, text).unwrap();
        let settings = Settings::load(&file).unwrap();
        init(&settings, &name("main"), InitChoice { recovery_key: false }).unwrap();
        Self { folder, settings }
    }

    pub fn back_up(&self, machine: &str) -> Timestamp {
        let done =
            backup_machine(&self.settings, &name(machine), Reading::Changes, &Progress::default());
        done.unwrap();
        let status = status(&self.settings, Timestamp::now());
        let machine = status.machines.iter().find(|it| it.machine.as_str() == machine).unwrap();
        machine.newest.unwrap().time
    }

    pub fn replicate(&self, replica: &str) {
        replicate(&self.settings, &name(replica), false, &Progress::default()).unwrap();
    }

    pub fn status(&self, now: Timestamp) -> StatusReport {
        status(&self.settings, now)
    }
}
