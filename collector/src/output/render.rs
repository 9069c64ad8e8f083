//! The renderer the settings ask for.

use crate::clock::TimeMs;
use crate::config::{Format, OutputConfig};
use crate::enrich::users::UserNames;
use crate::event::Output;
use crate::output::identity::Identity;
use crate::output::json::JsonRenderer;
use crate::output::raw::RawRenderer;
use crate::output::sink::Batch;

/// Turns outputs into lines of one format.
#[derive(Debug)]
pub enum Renderer {
    /// JSON lines.
    Json(JsonRenderer),
    /// auditd's raw format.
    Raw(RawRenderer),
}

impl Renderer {
    /// The renderer for `config`.
    pub fn new(config: &OutputConfig, identity: Identity) -> Self {
        Self::of_format(config.format, config.resolve_ids, identity)
    }

    /// The renderer of `format`; `resolve_ids` adds the names of users and groups where the format has room for them.
    pub fn of_format(format: Format, resolve_ids: bool, identity: Identity) -> Self {
        match format {
            Format::Json => {
                let users = resolve_ids.then(UserNames::of_this_host);
                Self::Json(JsonRenderer::new(identity, users))
            }
            Format::Raw => Self::Raw(RawRenderer::new(identity)),
        }
    }

    /// Appends the lines of `output`.
    #[inline(never)] // A stage: its instructions are counted apart (`cargo xtask instructions`).
    pub fn render(&mut self, output: &Output, out: &mut Vec<u8>) {
        match self {
            Self::Json(renderer) => renderer.render(output, out),
            Self::Raw(renderer) => renderer.render(output, out),
        }
    }

    /// Adds `output` to `batch` as one item.
    pub fn render_into(&mut self, output: &Output, batch: &mut Batch) {
        let time: TimeMs = match output {
            Output::Event(event) => event.time,
            Output::Loss(loss) => loss.time,
            Output::State(state) => state.time,
        };
        batch.push(time, |out| self.render(output, out));
    }
}
