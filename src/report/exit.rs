//! What the process tells its caller.

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum ExitCode {
    /// All was done, or there was nothing to do.
    Done = 0,
    /// Nothing of what was asked for was done.
    Failed = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// Part of what was asked for was done.
    Incomplete = 3,
    /// There is no repository where the settings say.
    NoRepository = 10,
    /// Another process holds what is needed; later it may work.
    Busy = 11,
    /// The key does not open the repository, or is not there.
    WrongKey = 12,
    /// The user stopped it.
    Interrupted = 130,
}

impl ExitCode {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Incomplete,
        Self::NoRepository,
        Self::Busy,
        Self::WrongKey,
        Self::Interrupted,
    ];
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

impl TryFrom<u8> for ExitCode {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|code| *code as u8 == number);
        known.ok_or_else(|| format!("{number} is no exit code of afterimage"))
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(u8::from(code))
    }
}
