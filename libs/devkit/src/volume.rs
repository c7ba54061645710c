//! Files as Kubernetes projects them into a pod: those of one volume are replaced together, in one step.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::authority::{Authority, Issued};
use crate::secrets::random_word;
use crate::spawn::Account;

/// A link to the folder in which the files are now. Each file is a link through it.
const NOW: &str = "..data";

/// The files of a Secret or ConfigMap, and the folder that they are mounted at.
#[derive(Clone)]
pub struct Volume {
    folder: &'static str,
    files: Vec<(&'static str, String)>,
}

// === impl Volume ===

impl Volume {
    /// A certificate, its key and who has signed it, as cert-manager writes them.
    pub fn certificate(folder: &'static str, issued: &Issued, by: &Authority) -> Self {
        let files = vec![
            ("tls.crt", issued.certificate.clone()),
            ("tls.key", issued.key.clone()),
            ("ca.crt", by.certificate().to_owned()),
        ];
        Self { folder, files }
    }

    /// Whom to trust.
    pub fn authority(folder: &'static str, authority: &Authority) -> Self {
        let files = vec![("ca.crt", authority.certificate().to_owned())];
        Self { folder, files }
    }

    /// Writes it below a folder, or replaces the files that are there. Answers where they are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, below: &Path, account: Option<&Account>) -> Result<PathBuf> {
        let folder = below.join(self.folder);
        Account::folder(account, &folder)?;
        let version = format!("..{}", random_word());
        Account::folder(account, &folder.join(&version))?;
        for (name, content) in &self.files {
            Account::file(account, &folder.join(&version).join(name), content)?;
            let link = folder.join(name);
            if !link.is_symlink() {
                symlink(Path::new(NOW).join(name), link)?;
            }
        }
        let next = folder.join("..next");
        symlink(&version, &next)?;
        fs::rename(next, folder.join(NOW))?;
        Ok(folder)
    }
}

// It may hold a private key.
impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_replaced_by_one_link() {
        let below = tempfile::tempdir().unwrap();
        let volume = |text: &str| Volume {
            folder: "tls",
            files: vec![
                ("tls.crt", format!("{text} certificate")),
                ("tls.key", format!("{text} key")),
            ],
        };
        let read = |folder: &Path| ["tls.crt", "tls.key"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
        let folder = volume("first").write(below.path(), None).unwrap();
        assert_eq!(read(&folder), ["first certificate", "first key"]);
        let before = fs::read_link(folder.join(NOW)).unwrap();
        assert_eq!(volume("second").write(below.path(), None).unwrap(), folder);
        assert_eq!(read(&folder), ["second certificate", "second key"]);
        assert_ne!(fs::read_link(folder.join(NOW)).unwrap(), before);
        // Whoever has opened the old folder still sees both old files.
        assert_eq!(read(&folder.join(before)), ["first certificate", "first key"]);
    }
}
