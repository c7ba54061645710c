//! Starting processes that carry a stack's mark.

use std::collections::hash_map::DefaultHasher;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, User, chown};

use crate::{mark, wait};

/// The end of a log that is shown when a process does not come up.
const TAIL_BYTES: i64 = 4096;

/// An unprivileged account for servers that refuse to run as root.
#[derive(Clone, Debug)]
pub struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The account to use: none needed unless we are root; Debian's `postgres`, or else `nobody`.
    ///
    /// # Errors
    /// When we are root and neither account exists.
    pub fn unprivileged() -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let user = match User::from_name("postgres")? {
            Some(user) => user,
            None => User::from_name("nobody")?.context("neither the account `postgres` nor `nobody` exists")?,
        };
        Ok(Some(Self {
            uid: user.uid,
            gid: user.gid,
        }))
    }

    /// Whether the account may enter a folder, through all its parents.
    pub fn reaches(&self, folder: &Path) -> bool {
        let mut test = Command::new("test");
        test.arg("-x")
            .arg(folder)
            .uid(self.uid.as_raw())
            .gid(self.gid.as_raw())
            .current_dir("/");
        test.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Makes a folder that is this account's alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(account: Option<&Self>, path: &Path) -> Result<()> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Self::own(account, path, 0o700)
    }

    /// Writes a file that this account alone reads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(account: Option<&Self>, path: &Path, content: &str) -> Result<()> {
        crate::secrets::write_private(path, content.as_bytes())?;
        Self::own(account, path, 0o600)
    }

    fn own(account: Option<&Self>, path: &Path, mode: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        if let Some(account) = account {
            chown(path, Some(account.uid), Some(account.gid))?;
        }
        Ok(())
    }
}

/// A program, ready to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The name that it is marked with, and that its log is named after.
    pub process: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its variables; of ours it inherits only what [`INHERITED`] names.
    pub environment: Vec<(String, String)>,
    /// Its working folder.
    pub folder: PathBuf,
    /// Where its output is appended to.
    pub log: PathBuf,
    /// The account to run under, where not ours.
    pub account: Option<Account>,
    /// Configuration files, written before the start and private to that account.
    pub files: Vec<(PathBuf, String)>,
}

/// What a process of a stack inherits: enough to find programs and libraries, nothing that configures it by accident.
pub const INHERITED: [&str; 8] = [
    "PATH",
    "LANG",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    "LD_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "CI",
];

impl Launch {
    /// A number that changes when the program's file, its arguments, variables or configuration change.
    pub fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        if let Ok(file) = fs::metadata(&self.program) {
            (file.len(), file.mtime(), file.mtime_nsec()).hash(&mut hasher);
        }
        (&self.program, &self.arguments, &self.environment, &self.files).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Starts it in a session of its own, so that Ctrl-C at our terminal does not reach it and it outlives us.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn detached(&self, stack: &Path) -> Result<Child> {
        // setsid(1) of util-linux, which execs in place and so keeps the process id that we are told: the system call
        // itself could only be made between fork and exec, which needs unsafe code.
        let mut command = Command::new("setsid");
        command.arg(&self.program);
        self.spawn(command, stack)
    }

    /// Starts it as our own child.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn attached(&self, stack: &Path) -> Result<Child> {
        self.spawn(Command::new(&self.program), stack)
    }

    /// Runs it to its end, in a session of its own.
    ///
    /// # Errors
    /// When it fails or takes longer than `bound`; the end of its log is in the message.
    pub async fn to_end(&self, stack: &Path, bound: Duration) -> Result<()> {
        let mut child = self.detached(stack)?;
        let mut status = None;
        let end = wait::until(&self.process, bound, || {
            status = child.try_wait().ok().flatten();
            let ended = status.is_some();
            async move { Ok(ended) }
        });
        let ended = end.await;
        if ended.is_err() {
            // It may have ended just now, which is as good.
            let _ = child.kill();
        }
        let line = || {
            format!(
                "`{} {}`",
                self.program.display(),
                self.arguments.join(OsStr::new(" ")).to_string_lossy()
            )
        };
        ended.with_context(|| format!("{} takes too long; the end of its log:\n{}", line(), tail(&self.log)))?;
        match status {
            Some(status) if status.success() => Ok(()),
            other => bail!(
                "{} failed ({other:?}); the end of its log:\n{}",
                line(),
                tail(&self.log)
            ),
        }
    }

    fn spawn(&self, mut command: Command, stack: &Path) -> Result<Child> {
        for (path, content) in &self.files {
            Account::file(self.account.as_ref(), path, content)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.args(&self.arguments).env_clear().current_dir(&self.folder);
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", &self.folder);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .env(mark::STACK, stack)
            .env(mark::PROCESS, &self.process)
            .env(mark::FINGERPRINT, self.fingerprint());
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))
    }
}

/// The end of a log.
pub fn tail(log: &Path) -> String {
    let read = || -> Result<String> {
        let mut file = File::open(log)?;
        let length = i64::try_from(file.metadata()?.len())?;
        file.seek(SeekFrom::End(-length.min(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(no log: {error})"))
}
