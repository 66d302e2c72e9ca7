//! Figures for a paper or a talk: every one of a report, as SVG and PNG, in one theme.

use std::path::{Path, PathBuf};

use deim_report::figures::FIGURES;
use deim_report::figures::raster::png_in;
use deim_report::figures::theme::themed;
use deim_report::{Document, Study, Theme, write_file};

/// Where figures go, and in which colours.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// Also write every figure as SVG and PNG into this folder.
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Colours of the figures in that folder: reader is light, and dark where a browser prefers it.
    #[arg(long, value_name = "THEME", default_value = "light", requires = "figures",
          value_parser = ["light", "dark", "grey", "reader"])]
    theme: String,
}

impl ExportArgs {
    fn theme(&self) -> Theme {
        match self.theme.as_str() {
            "dark" => Theme::Dark,
            "grey" => Theme::Grey,
            "reader" => Theme::Reader,
            _ => Theme::Light,
        }
    }

    /// The figures of a study, as `NAME-SCALE-FIGURE`.
    pub fn study(&self, study: &Study) -> anyhow::Result<()> {
        let Some(folder) = &self.figures else { return Ok(()) };
        for figure in &FIGURES {
            if let Some(svg) = figure.draw(study)? {
                let name = format!("{}-{}-{}", study.name, study.scale, figure.name);
                self.write(folder, &name, &svg)?;
            }
        }
        Ok(())
    }

    /// Figures that are documents already.
    pub fn documents(&self, documents: &[Document]) -> anyhow::Result<()> {
        let Some(folder) = &self.figures else { return Ok(()) };
        for document in documents.iter().filter(|document| document.name.ends_with(".svg")) {
            let svg = String::from_utf8_lossy(&document.content);
            self.write(folder, document.name.trim_end_matches(".svg"), &svg)?;
        }
        Ok(())
    }

    fn write(&self, folder: &Path, name: &str, svg: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        let theme = self.theme();
        write_file(&folder.join(format!("{name}.svg")), themed(svg, theme).as_bytes())?;
        write_file(&folder.join(format!("{name}.png")), &png_in(svg, theme)?)?;
        Ok(())
    }
}
