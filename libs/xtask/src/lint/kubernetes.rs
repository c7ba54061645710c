//! What `deploy/kubernetes` builds is valid, strictly: no field that Kubernetes does not know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::servers::apt_install;

use crate::run;
use crate::tools::Tools;

/// Builds every overlay and validates it.
pub(crate) async fn check(checkout: &Checkout, tools: &Tools) -> Result<()> {
    let overlays = overlays(&checkout.root().join("deploy/kubernetes/overlays"))?;
    if overlays.is_empty() {
        eprintln!("   no overlays under deploy/kubernetes/overlays yet");
        return Ok(());
    }
    if !has_kubectl() {
        apt_install(&["kubernetes-client"]).context("kubectl is needed to build deploy/kubernetes")?;
        ensure!(has_kubectl(), "kubectl does not work although it was installed");
    }
    let built = checkout.target().join("kubernetes");
    fs::create_dir_all(&built)?;
    for overlay in overlays {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("kustomize").arg(&overlay);
        let text = run::output(kubectl)?;
        let name = overlay.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = built.join(format!("{name}.yaml"));
        fs::write(&file, text)?;
        let mut validate = tools.command("kubernetes-validate");
        validate.arg("--strict").arg("--quiet").arg(&file);
        run::command(validate)
            .await
            .with_context(|| format!("the overlay {name}"))?;
    }
    Ok(())
}

fn overlays(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    let mut overlays: Vec<PathBuf> = entries
        .into_iter()
        .filter(|path| path.join("kustomization.yaml").is_file())
        .collect();
    overlays.sort();
    Ok(overlays)
}

fn has_kubectl() -> bool {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["version", "--client"]);
    run::output(kubectl).is_ok()
}
