//! Where this checkout and its built binaries are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The checkout that this crate was built from.
#[derive(Clone, Debug)]
pub struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// Finds the checkout.
    ///
    /// # Errors
    /// When it was moved or deleted since the build.
    pub fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here
            .ancestors()
            .nth(2)
            .context("libs/devkit has no grandparent folder")?;
        ensure!(
            root.join("Cargo.toml").is_file(),
            "{} is no checkout any more: build again",
            root.display()
        );
        Ok(Self { root: root.to_owned() })
    }

    /// The top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `.rowhouse`: everything that the dev stack leaves behind.
    pub fn rowhouse(&self) -> PathBuf {
        self.root.join(".rowhouse")
    }

    /// Cargo's target folder: `CARGO_TARGET_DIR`, or the one that the running program lies in, or `target`.
    pub fn target(&self) -> PathBuf {
        if let Some(given) = env::var_os("CARGO_TARGET_DIR") {
            return self.root.join(given);
        }
        let program = env::current_exe().unwrap_or_default();
        let profile = program
            .ancestors()
            .find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
        profile
            .and_then(Path::parent)
            .map_or_else(|| self.root.join("target"), Path::to_owned)
    }

    /// The built binary of a package.
    ///
    /// # Errors
    /// When it was not built.
    pub fn binary(&self, name: &str, release: bool) -> Result<PathBuf> {
        let path = self.target().join(if release { "release" } else { "debug" }).join(name);
        let flag = if release { " --release" } else { "" };
        ensure!(
            path.is_file(),
            "{} is not built: run `cargo build --bin {name}{flag}`",
            path.display()
        );
        Ok(path)
    }
}
