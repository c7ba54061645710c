//! One stack of servers and the folder that is its own: `.rowhouse/<profile>/`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkout::Checkout;
use crate::spawn::Account;

/// What a stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `cargo xtask up`: durable, stays.
    Dev,
    /// `cargo xtask test`: fast, thrown away.
    Test,
    /// `cargo xtask bench` on servers of its own: durable, since what is measured would be, and thrown away.
    Bench,
}

impl Profile {
    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Bench => "bench",
        }
    }

    /// Whether what PostgreSQL or RabbitMQ has acknowledged outlives a machine that falls.
    pub fn is_durable(self) -> bool {
        self != Self::Test
    }
}

/// A stack's folder. Its path is also the mark that every process of the stack carries.
#[derive(Clone, Debug)]
pub struct Stack {
    profile: Profile,
    folder: PathBuf,
}

/// Held while somebody changes a stack; the kernel releases it when its holder dies.
#[derive(Debug)]
pub struct StackLock {
    _file: File,
}

impl Stack {
    /// Opens the stack of a checkout, making its folders.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(checkout: &Checkout, profile: Profile) -> Result<Self> {
        let folder = checkout.rowhouse().join(profile.name());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        fs::create_dir_all(folder.join("log"))?;
        Ok(Self { profile, folder })
    }

    /// What it is for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A process's log.
    pub fn log(&self, process: &str) -> PathBuf {
        self.folder.join("log").join(format!("{process}.log"))
    }

    /// Waits until nobody else changes this stack.
    ///
    /// # Errors
    /// When the lock's file cannot be made.
    pub fn lock(&self) -> Result<StackLock> {
        let file = File::create(self.folder.join("lock"))?;
        if file.try_lock().is_err() {
            eprintln!(
                "another command is working on {}: waiting for it to end",
                self.folder.display()
            );
            file.lock()?;
        }
        Ok(StackLock { _file: file })
    }

    /// The folder of the servers' data. It lies in the stack's folder, or, where the servers' account cannot get
    /// there (a checkout under a closed home), in `/var/tmp` with a link to it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn data(&self, account: Option<&Account>) -> Result<PathBuf> {
        let data = self.folder.join("data");
        if !data.exists() {
            // A link whose target was cleaned away would fail `create_dir`.
            if data.is_symlink() {
                fs::remove_file(&data)?;
            }
            if account.is_none_or(|account| account.reaches(&self.folder)) {
                fs::create_dir_all(&data)?;
            } else {
                let elsewhere = self.elsewhere();
                fs::create_dir_all(&elsewhere)?;
                fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755))?;
                symlink(&elsewhere, &data)?;
            }
        }
        Ok(data.canonicalize()?)
    }

    /// Deletes the servers' data and keeps the logs. The servers must be down.
    ///
    /// # Errors
    /// When a folder cannot be deleted.
    pub fn forget_data(&self) -> Result<()> {
        let data = self.folder.join("data");
        if data.is_symlink() {
            let target = fs::read_link(&data)?;
            if target == self.elsewhere() && target.exists() {
                fs::remove_dir_all(&target)?;
            }
            fs::remove_file(&data)?;
        }
        let data = self.folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot delete {}", data.display()))?;
        }
        // They fit the data alone.
        for name in ["secrets", "stack.json"] {
            let file = self.folder.join(name);
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// Deletes everything but the choice of ports. The servers must be down.
    ///
    /// # Errors
    /// When a folder cannot be deleted.
    pub fn forget(&self) -> Result<()> {
        self.forget_data()?;
        for name in ["log", "mail", "files", "runs"] {
            let folder = self.folder.join(name);
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot delete {}", folder.display()))?;
            }
        }
        let password = self.folder.join("admin-password");
        if password.exists() {
            fs::remove_file(password)?;
        }
        fs::create_dir_all(self.folder.join("log"))?;
        Ok(())
    }

    fn elsewhere(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        self.folder.hash(&mut hasher);
        PathBuf::from(format!("/var/tmp/rowhouse-{:016x}", hasher.finish()))
    }
}
