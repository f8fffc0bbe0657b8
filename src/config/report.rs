//! How a refused file is reported: `file:line:column: cause`, the source line with the place
//! marked, and the next step.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource};

use super::MAX_FILE_BYTES;
use super::reason::Reason;

/// A longer line is not shown: a report has to fit a screen, and a file may be one line of 1 MiB.
const MAX_SHOWN_LINE_BYTES: usize = 400;

/// Why there is no [`Config`](super::Config). Shown by miette with the lines in question; its
/// `Display` is one line for a log, the first mistake's.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    #[diagnostic(help("name the file with --config FILE, and let the user that runs vipd read it"))]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file is longer than [`MAX_FILE_BYTES`].
    #[error("{origin}: is longer than {MAX_FILE_BYTES} bytes, which no vipd.toml is")]
    #[diagnostic(help("look whether --config names the right file"))]
    TooLong { origin: String },
    /// One thing is wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Mistake(Mistake),
    /// Several things are, in the order of the file.
    #[error("{}", summary(all))]
    Mistakes {
        #[related]
        all: Vec<Mistake>,
    },
}

impl ConfigError {
    /// What is wrong with the text, in the order of the file; empty where there was no text.
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            ConfigError::Unreadable { .. } | ConfigError::TooLong { .. } => &[],
            ConfigError::Mistake(one) => std::slice::from_ref(one),
            ConfigError::Mistakes { all } => all,
        }
    }

    pub(super) fn new(mut all: Vec<Mistake>) -> Self {
        all.sort_by_key(Mistake::position);
        match <[Mistake; 1]>::try_from(all) {
            Ok([one]) => ConfigError::Mistake(one),
            Err(all) => ConfigError::Mistakes { all },
        }
    }
}

fn summary(all: &[Mistake]) -> String {
    let first = all.first().map(ToString::to_string).unwrap_or_default();
    format!("{first} (1 of {} mistakes)", all.len())
}

/// One thing that is wrong, and where.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{}:{line}:{column}: {reason}", text.name())]
pub struct Mistake {
    // One allocation each: an error is moved through many results, and is not to be large.
    reason: Box<Reason>,
    line: usize,
    column: usize,
    #[source_code]
    text: Text,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
    #[help]
    help: String,
}

impl Mistake {
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Line and column, in characters, both from 1.
    pub fn position(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    /// What to do about it.
    pub fn next_step(&self) -> &str {
        &self.help
    }

    /// `places` holds the bytes in question and a word about each, the culprit first. Without any
    /// the mistake stands at the start of the file.
    pub(super) fn new(text: &Text, reason: Reason, places: Vec<Place>) -> Self {
        let help = reason.help().map(|h| h.to_string()).unwrap_or_default();
        let (line, column) = places.first().map_or((1, 1), |(span, _)| text.position(span.start));
        let shown = places.iter().all(|(span, _)| text.fits_a_screen(span));
        let labels = places.into_iter().filter(|_| shown).enumerate().map(|(i, (span, word))| {
            let span = text.clamp(span);
            if i == 0 {
                LabeledSpan::new_primary_with_span(Some(word.to_owned()), span)
            } else {
                LabeledSpan::new_with_span(Some(word.to_owned()), span)
            }
        });
        Self { line, column, text: text.clone(), labels: labels.collect(), help, reason: Box::new(reason) }
    }
}

/// Bytes of the text, and what to say about them.
pub(super) type Place = (Range<usize>, &'static str);

/// The text with its file's name, shared by every mistake in it.
#[derive(Clone, Debug)]
pub(super) struct Text(Arc<NamedSource<String>>);

impl Text {
    pub fn as_str(&self) -> &str {
        self.0.inner()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    /// Line and column of a byte, in characters, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.before(offset);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// The text up to a byte, or to the character that the byte is in.
    fn before(&self, offset: usize) -> &str {
        self.as_str().get(..self.as_str().floor_char_boundary(offset)).unwrap_or("")
    }

    /// miette refuses to show a place that is not in the text.
    fn clamp(&self, span: Range<usize>) -> Range<usize> {
        let start = self.before(span.start).len();
        start..self.before(span.end).len().max(start)
    }

    fn fits_a_screen(&self, span: &Range<usize>) -> bool {
        let Range { start, end } = self.clamp(span.clone());
        let text = self.as_str();
        // miette shows a line before and a line after the marked ones.
        let head = text.get(..start).unwrap_or("").rsplit('\n').take(2);
        let middle = text.get(start..end).unwrap_or("").split('\n');
        let tail = text.get(end..).unwrap_or("").split('\n').take(2);
        head.chain(middle).chain(tail).all(|line| line.len() <= MAX_SHOWN_LINE_BYTES)
    }
}

impl miette::SourceCode for Text {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        self.0.read_span(span, lines_before, lines_after)
    }
}

/// The text of the file's bytes: UTF-8 without a byte order mark, as TOML wants it (TOML 1.0,
/// section "Preliminaries"), and not longer than it may be.
pub(super) fn decode(bytes: &[u8], origin: &str) -> Result<Text, ConfigError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong { origin: origin.to_owned() });
    }
    let named = |text: String| Text(Arc::new(NamedSource::new(origin, text)));
    let marks: [(&[u8], &str); 3] =
        [(b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")];
    if let Some((_, encoding)) = marks.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        // Shown without the text: the mark has no width, and UTF-16 is not readable here.
        let text = named(String::new());
        return Err(ConfigError::new(vec![Mistake::new(&text, Reason::Bom { encoding }, vec![])]));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(named(text.to_owned())),
        Err(error) => {
            let offset = error.valid_up_to();
            // Up to the bad byte the lossy text has the same offsets, and a mark in its place.
            let text = named(String::from_utf8_lossy(bytes).into_owned());
            let reason = Reason::NotUtf8 { offset, byte: bytes.get(offset).copied().unwrap_or_default() };
            let place = (offset..offset + char::REPLACEMENT_CHARACTER.len_utf8(), "not UTF-8");
            Err(ConfigError::new(vec![Mistake::new(&text, reason, vec![place])]))
        }
    }
}
