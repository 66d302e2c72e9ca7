//! What is wrong with a spec, shown in the manner of a compiler: file, line, caret, advice.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::source::{Place, Sources};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Diagnostic {
    pub title: String,
    /// Where, and what to say there: what was expected and what was found.
    pub primary: Option<(Place, String)>,
    /// Other places that have to do with it.
    pub context: Vec<(Place, String)>,
    pub notes: Vec<String>,
    pub help: Vec<String>,
}

impl Diagnostic {
    pub fn new(title: impl Into<String>) -> Self {
        let title = title.into();
        Self { title, primary: None, context: vec![], notes: vec![], help: vec![] }
    }

    pub fn at(mut self, place: Place, label: impl Into<String>) -> Self {
        self.primary = Some((place, label.into()));
        self
    }

    /// As `at`, for places that may not be known.
    pub fn at_some(self, place: Option<Place>, label: impl Into<String>) -> Self {
        match place {
            Some(place) => self.at(place, label),
            None => self.note(label),
        }
    }

    pub fn context(mut self, place: Place, label: impl Into<String>) -> Self {
        self.context.push((place, label.into()));
        self
    }

    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds "did you mean" for the nearest of the known names, or else lists them.
    pub fn suggest(self, written: &str, known: &[&str]) -> Self {
        match nearest(written, known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None if known.is_empty() => self,
            None => {
                let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                self.help(format!("expected one of {}", known.join(", ")))
            }
        }
    }

    fn group<'a>(&'a self, sources: &'a Sources, level: Level<'a>) -> Group<'a> {
        let mut group = Group::with_title(level.primary_title(&self.title));
        let marks = self.primary.iter().map(|mark| (AnnotationKind::Primary, mark));
        let marks = marks.chain(self.context.iter().map(|mark| (AnnotationKind::Context, mark)));
        let marks: Vec<_> = marks.collect();
        let mut shown: Vec<usize> = Vec::new();
        for (_, (place, _)) in &marks {
            if shown.contains(&place.source) {
                continue;
            }
            shown.push(place.source);
            let source = sources.get(*place);
            let mut snippet = Snippet::source(&source.text).path(&source.name);
            for (kind, (other, label)) in
                marks.iter().filter(|mark| mark.1.0.source == place.source)
            {
                snippet = snippet.annotation(kind.span(other.range()).label(label));
            }
            group = group.element(snippet);
        }
        let notes = self.notes.iter().map(|text| Level::NOTE.message(text));
        let help = self.help.iter().map(|text| Level::HELP.message(text));
        group.elements(notes.chain(help))
    }
}

/// The nearest of the known names, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let written = written.to_lowercase();
    let scored = known.iter().map(|name| {
        let same = name.to_lowercase();
        (strsim::damerau_levenshtein(&written, &same), *name)
    });
    let allowed = 1 + written.chars().count() / 4;
    scored
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Everything that is wrong with a spec, with the texts needed to show it.
#[derive(Clone)]
pub struct SpecError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
}

impl SpecError {
    pub(crate) fn new(diagnostics: Vec<Diagnostic>, sources: Sources) -> Self {
        // Rows of one experiment share most of their values, so most of their errors.
        let mut unique: Vec<Diagnostic> = Vec::new();
        for diagnostic in diagnostics {
            if !unique.contains(&diagnostic) {
                unique.push(diagnostic);
            }
        }
        Self(Box::new(Inner { diagnostics: unique, sources }))
    }

    /// How many things are wrong.
    pub fn count(&self) -> usize {
        self.0.diagnostics.len()
    }

    /// The whole message, each part beginning with `error:`; with colours if asked.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let parts =
            self.0.diagnostics.iter().map(|diagnostic| {
                renderer.render(&[diagnostic.group(&self.0.sources, Level::ERROR)])
            });
        parts.collect::<Vec<_>>().join("\n\n")
    }
}

/// Without colours, and without the first `error:`, which whoever prints an error puts before it.
impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.render(false);
        f.write_str(text.strip_prefix("error: ").unwrap_or(&text))
    }
}

impl fmt::Debug for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SpecError {}
