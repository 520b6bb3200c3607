//! Pages with commands and files in them. The word after a fence says the language, the next one where: `a`, `b` or `both`, and
//! for a file its path.

/// A fenced block that says where it belongs.
#[derive(Debug)]
pub(crate) struct Block {
    /// `sh` for commands.
    pub(crate) language: String,
    /// `a`, `b` or `both`.
    pub(crate) place: String,
    /// Of a file.
    pub(crate) path: Option<String>,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn is_for(&self, machine: &str) -> bool {
        self.place == machine || self.place == "both"
    }
}

/// The blocks of a page that say where they belong, in its order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("```") else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let mut words = head.split_whitespace().map(str::to_owned);
        if let (Some(language), Some(place)) = (words.next(), words.next()) {
            blocks.push(Block { language, place, path: words.next(), text: text.join("\n") + "\n" });
        }
    }
    blocks
}
