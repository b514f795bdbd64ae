//! What the charts are drawn with: plain SVG that reads well on light and on dark.

use std::fmt::{Display, Write};

use crate::options::Peer;

/// Of text and axes. As far from white as from black.
const INK: &str = "#767676";

/// A drawing of which the height shows at the end. Everything in pixels.
pub struct Drawing {
    width: f64,
    body: String,
}

/// Where a text stands to its place.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It has its middle there.
    Middle,
    /// It ends there.
    End,
}

/// The colour of a server, the same in all charts; told apart without red and green.
pub fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Mixlab => "#2f81c7",
        Peer::MixlabPlain => "#83b8e6",
        Peer::Before => "#1c4e79",
        Peer::Node => "#d68a00",
        Peer::NodeCluster => "#a66bb5",
        Peer::Native => "#8a8a8a",
    }
}

impl Drawing {
    /// So wide.
    pub fn new(width: f64) -> Self {
        Self {
            width,
            body: String::new(),
        }
    }

    /// Writes a text.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: impl Display) {
        self.write(x, y, anchor, "", text);
    }

    /// Writes a title.
    pub fn title(&mut self, (x, y): (f64, f64), text: impl Display) {
        self.write(x, y, Anchor::Start, r#" class="title""#, text);
    }

    fn write(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: impl Display) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let text = text.to_string().replace('&', "&amp;").replace('<', "&lt;");
        self.add(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}"{anchor}{class}>{text}</text>"#
        ));
    }

    /// Fills a rectangle.
    pub fn bar(&mut self, (x, y): (f64, f64), width: f64, height: f64, colour: &str) {
        self.add(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    /// Draws a thin line in the colour of the text, dashed or not.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), dashed: bool) {
        let dashes = if dashed {
            r#" stroke-dasharray="3 2""#
        } else {
            ""
        };
        self.add(format_args!(
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{INK}"{dashes}/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    /// Joins points, and marks each.
    pub fn curve(&mut self, points: &[(f64, f64)], colour: &str) {
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.add(format_args!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            path.join(" ")
        ));
        for (x, y) in points {
            self.add(format_args!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#
            ));
        }
    }

    /// Names the colours of servers in one row; returns where it ends.
    pub fn legend(&mut self, (x, y): (f64, f64), peers: &[Peer]) -> f64 {
        const SQUARE: f64 = 11.0;
        const STEP: f64 = 110.0;
        for (number, peer) in peers.iter().enumerate() {
            let x = x + STEP * number as f64;
            self.bar((x, y - SQUARE + 1.0), SQUARE, SQUARE, colour(*peer));
            self.text((x + SQUARE + 5.0, y), Anchor::Start, peer);
        }
        x + STEP * peers.len() as f64
    }

    /// The file.
    pub fn finish(self, height: f64) -> String {
        let Self { width, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\">\n\
             <style>text {{ font: 12px system-ui, sans-serif; fill: {INK} }} \
             .title {{ font-weight: 600 }}</style>\n{body}</svg>\n"
        )
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_its_element() {
        let mut drawing = Drawing::new(100.0);
        drawing.text((1.0, 2.0), Anchor::End, "a < b & c");
        let svg = drawing.finish(50.0);
        assert!(svg.contains(">a &lt; b &amp; c</text>"), "{svg}");
        assert!(svg.contains(r#"viewBox="0 0 100 50""#), "{svg}");
    }
}
