//! A boot, or the provisioning of a device, as a picture: one lane for each stage, one bar for each step.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

use crate::{Outcome, Report, TimelineEntry};

// All lengths in pixels. Names stand left of the bars and durations right of them, each in a column of its own,
// so that no text can meet another however short a bar is.
const WIDTH: f64 = 1000.0;
const MARGIN: f64 = 24.0;
const BARS_LEFT: f64 = 320.0;
const BARS_RIGHT: f64 = 860.0;
const TOP: f64 = 108.0;
const HEAD: f64 = 28.0;
const ROW: f64 = 24.0;
const BAR: f64 = 14.0;
const GAP: f64 = 10.0;
/// Longest names that fit their column at 12 px.
const NAME_CHARS: usize = 42;
/// Longest title that fits the width at 19 px.
const TITLE_CHARS: usize = 90;
/// Most labels on the scale: the widest, `1000 ms`, takes 50 of the 77 px that each then has.
const TICKS: u64 = 7;

/// Draws the timeline of a boot as an SVG document.
pub fn timeline_svg(report: &Report) -> String {
    Picture::of(report).svg()
}

/// What a picture shows.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The heading.
    pub title: String,
    /// What else is to be known, in one line.
    pub subtitle: String,
    /// The bars, in lanes by their stage.
    pub timeline: Vec<TimelineEntry>,
    /// What the end of the last bar means, if it means anything.
    pub end: Option<End>,
}

/// What the end of a picture is marked with.
#[derive(Clone, Debug)]
pub struct End {
    /// When it was, in microseconds.
    pub at_us: u64,
    /// What happened then; the time is added.
    pub label: String,
    /// Whether it is what nobody wanted.
    pub bad: bool,
}

impl Picture {
    fn of(report: &Report) -> Self {
        let last = report.timeline.iter().map(|entry| entry.end_us).max().unwrap_or(0);
        let at_us = report.reset_to_kernel_us.unwrap_or(last).max(last);
        let (title, subtitle) = titles(report, at_us);
        let end = match (&report.code, report.reset_to_kernel_us) {
            (Some(code), _) => Some(End { at_us, label: format!("refused: {code}"), bad: true }),
            (None, Some(_)) => Some(End { at_us, label: "guest entered".into(), bad: false }),
            (None, None) => None,
        };
        Self { title, subtitle, timeline: report.timeline.clone(), end }
    }

    /// Draws it as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = Svg(Writer::new_with_indent(Vec::new(), b' ', 1));
        // Writing to memory does not fail.
        draw(&mut svg, self).unwrap_or_default();
        String::from_utf8(svg.0.into_inner()).unwrap_or_default()
    }
}

/// The steps of one stage, in their order.
struct Lane<'a> {
    stage: &'a str,
    steps: Vec<&'a TimelineEntry>,
}

fn lanes(timeline: &[TimelineEntry]) -> Vec<Lane<'_>> {
    let mut lanes: Vec<Lane<'_>> = Vec::new();
    for entry in timeline {
        match lanes.iter_mut().find(|lane| lane.stage == entry.stage) {
            Some(lane) => lane.steps.push(entry),
            None => lanes.push(Lane { stage: &entry.stage, steps: vec![entry] }),
        }
    }
    lanes
}

fn colours(stage: &str) -> (&'static str, &'static str) {
    match stage {
        "stage0" => ("#2b6cb0", "#ebf4fb"),
        "stage1-provision" => ("#b7791f", "#fdf6e7"),
        "stage2-production" => ("#2f855a", "#ebf7f0"),
        _ => ("#6b46c1", "#f3effc"),
    }
}

fn draw(svg: &mut Svg, picture: &Picture) -> io::Result<()> {
    let lanes = lanes(&picture.timeline);
    let last = picture.timeline.iter().map(|entry| entry.end_us).max().unwrap_or(0);
    let scale = Scale { total: picture.end.as_ref().map_or(last, |end| end.at_us.max(last)).max(1) };
    let body: f64 = lanes.iter().map(|lane| HEAD + ROW * lane.steps.len() as f64 + GAP).sum();
    let bottom = TOP + body.max(ROW);
    let height = bottom + 44.0;

    svg.open(WIDTH, height)?;
    svg.rect(0.0, 0.0, WIDTH, height, "#ffffff", 0.0)?;
    let title = clip(&picture.title, TITLE_CHARS);
    svg.text(MARGIN, 38.0, &title, Text { size: 19, bold: true, ..Text::default() })?;
    let subtitle = clip(&picture.subtitle, 140);
    svg.text(MARGIN, 61.0, &subtitle, Text { size: 12, fill: "#4a5568", ..Text::default() })?;
    if picture.timeline.is_empty() {
        svg.text(MARGIN, TOP, "No steps were recorded.", Text::default())?;
    }

    // Bands first, then the grid over them, then bars and text over both.
    let mut y = TOP;
    for lane in &lanes {
        let band = HEAD + ROW * lane.steps.len() as f64;
        svg.rect(MARGIN - 8.0, y, WIDTH - 2.0 * MARGIN + 16.0, band, colours(lane.stage).1, 5.0)?;
        y += band + GAP;
    }
    for tick in scale.ticks() {
        let x = scale.x(tick);
        svg.line(x, TOP - 4.0, x, bottom, "#cbd5e0", 1.0)?;
        svg.text(x, bottom + 18.0, &scale.label(tick), Text { anchor: "middle", ..Text::small() })?;
    }
    let mut y = TOP;
    for lane in &lanes {
        draw_lane(svg, lane, y, &scale)?;
        y += HEAD + ROW * lane.steps.len() as f64 + GAP;
    }
    if let Some(end) = &picture.end {
        mark_end(svg, end, &scale, bottom)?;
    }
    svg.close()
}

fn draw_lane(svg: &mut Svg, lane: &Lane<'_>, top: f64, scale: &Scale) -> io::Result<()> {
    let colour = colours(lane.stage).0;
    let start = lane.steps.iter().map(|step| step.start_us).min().unwrap_or(0);
    let end = lane.steps.iter().map(|step| step.end_us).max().unwrap_or(0);
    let head = Text { size: 13, bold: true, fill: colour, ..Text::default() };
    svg.text(MARGIN, top + 19.0, &clip(lane.stage, NAME_CHARS), head)?;
    let total = format!("{} in all", duration(end.saturating_sub(start)));
    svg.text(WIDTH - MARGIN, top + 19.0, &total, Text { anchor: "end", size: 12, ..head })?;
    for (row, step) in lane.steps.iter().enumerate() {
        let y = top + HEAD + ROW * row as f64;
        let base = y + 15.0;
        svg.text(MARGIN + 10.0, base, &clip(&step.step, NAME_CHARS), Text::default())?;
        let (from, to) = (scale.x(step.start_us), scale.x(step.end_us));
        svg.rect(from, y + (ROW - BAR) / 2.0 - 1.0, (to - from).max(1.5), BAR, colour, 2.0)?;
        let took = step.end_us.saturating_sub(step.start_us);
        svg.text(WIDTH - MARGIN - 44.0, base, &duration(took), Text { anchor: "end", ..Text::default() })?;
        let share = format!("{:.0}%", took as f64 * 100.0 / scale.total as f64);
        svg.text(WIDTH - MARGIN, base, &share, Text { anchor: "end", ..Text::small() })?;
    }
    Ok(())
}

/// Marks the end, with a line over all lanes and a label above them.
fn mark_end(svg: &mut Svg, end: &End, scale: &Scale, bottom: f64) -> io::Result<()> {
    let colour = if end.bad { "#c53030" } else { "#1a202c" };
    let x = scale.x(end.at_us);
    svg.line(x, TOP - 14.0, x, bottom, colour, 1.5)?;
    let label = clip(&format!("{} at {}", end.label, duration(end.at_us)), NAME_CHARS);
    let text = Text { anchor: "end", size: 12, bold: true, fill: colour };
    svg.text(x.max(BARS_LEFT) + 2.0, TOP - 20.0, &label, text)
}

fn titles(report: &Report, end: u64) -> (String, String) {
    let entered = report.reset_to_kernel_us.is_some();
    let title = match (report.result, &report.code, &report.code_name) {
        (Outcome::Refused, Some(code), name) => {
            format!("Kiln boot: refused, {code} {}", name.as_deref().unwrap_or_default())
        }
        (result, ..) if entered => format!("Kiln boot: {result}, {} from reset to kernel", duration(end)),
        (result, ..) => format!("Kiln boot: {result}"),
    };
    let mut facts: Vec<String> = Vec::new();
    facts.extend(report.board.clone());
    facts.extend(report.lifecycle.clone());
    facts.extend(report.slot.as_ref().map(|slot| format!("boot slot {slot}")));
    facts.extend(report.fallback_code.as_ref().map(|code| format!("other boot slot refused: {code}")));
    facts.extend(report.os_slot.as_ref().map(|slot| format!("OS slot {slot}")));
    facts.extend(report.os_fallback_code.as_ref().map(|code| format!("other OS slot refused: {code}")));
    facts.extend(report.cpus_online.map(|cpus| format!("{cpus} cores online")));
    let host = report.host_reset_to_kernel_ms;
    facts.extend(host.map(|ms| format!("first kernel line at {ms:.0} ms (host clock)")));
    (title, facts.join(" · "))
}

struct Scale {
    /// Length of the whole scale in microseconds, at least 1.
    total: u64,
}

impl Scale {
    fn x(&self, micros: u64) -> f64 {
        let part = micros as f64 / self.total as f64;
        BARS_LEFT + (BARS_RIGHT - BARS_LEFT) * part.clamp(0.0, 1.0)
    }

    /// Returns the distance between two ticks: 1, 2 or 5 times a power of ten.
    fn step(&self) -> u64 {
        let decades = std::iter::successors(Some(1_u64), |decade| decade.checked_mul(10));
        let mut steps = decades.flat_map(|decade| [1, 2, 5].map(|factor| decade.saturating_mul(factor)));
        steps.find(|step| self.total / step < TICKS).unwrap_or(u64::MAX)
    }

    fn ticks(&self) -> impl Iterator<Item = u64> {
        (0..=self.total).step_by(usize::try_from(self.step()).unwrap_or(usize::MAX))
    }

    /// All labels of one scale have the same unit.
    fn label(&self, micros: u64) -> String {
        match self.step() {
            0..1_000 => format!("{micros} µs"),
            1_000..1_000_000 => format!("{} ms", micros / 1_000),
            _ => format!("{} s", micros / 1_000_000),
        }
    }
}

fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

fn clip(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars - 1).collect();
    format!("{}…", kept.trim_end())
}

#[derive(Clone, Copy)]
struct Text {
    size: u32,
    bold: bool,
    fill: &'static str,
    anchor: &'static str,
}

impl Default for Text {
    fn default() -> Self {
        Self { size: 12, bold: false, fill: "#1a202c", anchor: "start" }
    }
}

impl Text {
    fn small() -> Self {
        Self { size: 11, fill: "#4a5568", ..Self::default() }
    }
}

/// Writes SVG elements; the writer escapes every text and attribute.
struct Svg(Writer<Vec<u8>>);

impl Svg {
    fn open(&mut self, width: f64, height: f64) -> io::Result<()> {
        let view = format!("0 0 {width} {height}");
        let (width, height) = (width.to_string(), height.to_string());
        let mut root = BytesStart::new("svg");
        root.extend_attributes([
            ("xmlns", "http://www.w3.org/2000/svg"),
            ("width", width.as_str()),
            ("height", height.as_str()),
            ("viewBox", view.as_str()),
            ("font-family", "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"),
        ]);
        self.0.write_event(Event::Start(root))
    }

    fn close(&mut self) -> io::Result<()> {
        self.0.write_event(Event::End(BytesEnd::new("svg")))
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str, round: f64) -> io::Result<()> {
        let values = [x, y, width, height, round].map(|value| format!("{value:.1}"));
        let names = ["x", "y", "width", "height", "rx"];
        let numbers = names.into_iter().zip(values.iter().map(String::as_str));
        self.0
            .create_element("rect")
            .with_attributes(numbers)
            .with_attribute(("fill", fill))
            .write_empty()?;
        Ok(())
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str, width: f64) -> io::Result<()> {
        let values = [x1, y1, x2, y2, width].map(|value| format!("{value:.1}"));
        let names = ["x1", "y1", "x2", "y2", "stroke-width"];
        let numbers = names.into_iter().zip(values.iter().map(String::as_str));
        self.0
            .create_element("line")
            .with_attributes(numbers)
            .with_attribute(("stroke", stroke))
            .write_empty()?;
        Ok(())
    }

    fn text(&mut self, x: f64, y: f64, text: &str, style: Text) -> io::Result<()> {
        let (x, y, size) = (format!("{x:.1}"), format!("{y:.1}"), style.size.to_string());
        let weight = if style.bold { "bold" } else { "normal" };
        let attributes = [
            ("x", x.as_str()),
            ("y", y.as_str()),
            ("font-size", size.as_str()),
            ("font-weight", weight),
            ("fill", style.fill),
            ("text-anchor", style.anchor),
        ];
        self.0.create_element("text").with_attributes(attributes).write_text_content(BytesText::new(text))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample_record;
    use boot_info::record::BootRecord;
    use quick_xml::Reader;

    fn sample() -> Report {
        let mut report = Report::empty();
        report.take_record(&sample_record(), 0);
        report.result = Outcome::LinuxUserspace;
        report.cpus_online = Some(2);
        report.host_reset_to_kernel_ms = Some(312.4);
        report
    }

    struct Label {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        text: String,
    }

    /// Parses the document; returns its texts, with boxes as wide as a broad font makes them, and the number of
    /// rectangles.
    fn parse(svg: &str) -> (Vec<Label>, usize) {
        let mut reader = Reader::from_str(svg);
        reader.config_mut().check_end_names = true;
        let (mut labels, mut rects, mut depth) = (Vec::new(), 0, 0);
        let mut open: Option<(f64, f64, f64, String, bool)> = None;
        loop {
            match reader.read_event().expect("well-formed XML") {
                Event::Start(start) => {
                    depth += 1;
                    let get = |name: &str| {
                        let value = start.try_get_attribute(name).unwrap();
                        value.map(|it| it.unescape_value().unwrap().into_owned()).unwrap_or_default()
                    };
                    if start.name().as_ref() == b"text" {
                        let number = |name| get(name).parse::<f64>().unwrap();
                        let bold = get("font-weight") == "bold";
                        open =
                            Some((number("x"), number("y"), number("font-size"), get("text-anchor"), bold));
                    }
                }
                Event::Text(text) => {
                    if let Some((x, y, size, anchor, bold)) = open.take() {
                        let text = text.decode().unwrap().into_owned();
                        let width = text.chars().count() as f64 * size * if bold { 0.65 } else { 0.56 };
                        let x = match anchor.as_str() {
                            "end" => x - width,
                            "middle" => x - width / 2.0,
                            _ => x,
                        };
                        labels.push(Label { x, y: y - size * 0.8, width, height: size, text });
                    }
                }
                Event::End(_) => depth -= 1,
                Event::Empty(it) if it.name().as_ref() == b"rect" => rects += 1,
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0);
        (labels, rects)
    }

    fn assert_apart(labels: &[Label]) {
        for (index, a) in labels.iter().enumerate() {
            assert!(a.x >= 0.0 && a.x + a.width <= WIDTH, "{} leaves the picture", a.text);
            for b in &labels[..index] {
                let beside = a.x + a.width <= b.x || b.x + b.width <= a.x;
                let above = a.y + a.height <= b.y || b.y + b.height <= a.y;
                assert!(beside || above, "{:?} and {:?} overlap", a.text, b.text);
            }
        }
    }

    #[test]
    fn every_step_is_a_bar_with_its_name_and_time() {
        let svg = timeline_svg(&sample());
        let (labels, rects) = parse(&svg);
        assert_eq!(rects, 1 + 2 + 11, "background, lanes and bars");
        let texts: Vec<&str> = labels.iter().map(|label| label.text.as_str()).collect();
        for text in [
            "stage0",
            "stage2-production",
            "verify next stage",
            "92.5 ms",
            "600 µs",
            "guest entered at 130.0 ms",
        ] {
            assert!(texts.contains(&text), "{text} in {texts:?}");
        }
        assert!(texts[0].contains("linux-userspace, 130.0 ms"), "{}", texts[0]);
        assert_apart(&labels);
    }

    #[test]
    fn a_refusal_shows_its_code() {
        let mut report = Report::empty();
        report.take_record(&BootRecord { code: 302, ..sample_record() }, 0);
        report.result = Outcome::Refused;
        let (labels, _) = parse(&timeline_svg(&report));
        assert!(labels[0].text.contains("refused, K0302 signature-invalid"));
        assert!(labels.iter().any(|label| label.text.starts_with("refused: K0302 at")));
        assert_apart(&labels);
    }

    #[test]
    fn text_never_overlaps_or_breaks_the_document_whatever_the_report_holds() {
        let mut report = sample();
        for (index, entry) in report.timeline.iter_mut().enumerate() {
            entry.stage =
                format!("<stage & \"{}\"> with a name that is far too long for its lane", index % 3);
            entry.step = "a step whose name </text> goes on and on beyond the column & further".into();
            (entry.start_us, entry.end_us) = (index as u64, index as u64 + 1);
        }
        report.board = Some("b".repeat(300));
        for total in [0, 1, 13, 999, 130_000, 9_999_999, 3_600_000_000] {
            report.reset_to_kernel_us = Some(total);
            let (labels, rects) = parse(&timeline_svg(&report));
            assert_eq!(rects, 1 + 3 + 11);
            assert_apart(&labels);
        }
    }

    #[test]
    fn an_empty_report_is_a_picture_too() {
        let (labels, _) = parse(&timeline_svg(&Report::empty()));
        assert!(labels.iter().any(|label| label.text == "No steps were recorded."));
        assert_apart(&labels);
    }
}
