//! Two kinds of plots. Their ground is transparent, and their colours stand out from a light page
//! and from a dark one.

use std::fmt::Write;

const TEXT: &str = "#7a7a7a";
const OURS: &str = "#d9730d";
/// Of the peers, one after the other.
const PEERS: [&str; 3] = ["#3f86d6", "#2f9e6b", "#a066c9"];

const WIDTH: f64 = 640.0;
/// Where the labels end and the drawing begins.
const LEFT: f64 = 270.0;
const RIGHT: f64 = 570.0;

/// A bar, and what stands on it.
pub struct Bar {
    pub label: String,
    pub value: f64,
    /// From the smallest to the largest sample.
    pub range: Option<(f64, f64)>,
    /// A mark to compare with.
    pub mark: Option<f64>,
    /// What is written at its end.
    pub text: String,
    /// In the colour of ours.
    pub highlighted: bool,
}

/// Positions on a logarithmic axis.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Whole decades that hold all of `values`.
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let high = values.fold(0.0, f64::max).log10().ceil();
        Axis { low, high: high.max(low + 1.0), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power))
    }
}

fn begin(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         font-family=\"sans-serif\" font-size=\"14\" fill=\"{TEXT}\">\n\
         <text x=\"{}\" y=\"20\" text-anchor=\"middle\" font-size=\"16\">{}</text>\n",
        WIDTH / 2.0,
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escaped(words);
    let _ =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) {
    let ends = format!("x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"");
    let _ = writeln!(svg, "<line {ends} {style}/>");
}

fn rectangle(svg: &mut String, (x, y): (f64, f64), width: f64, height: f64, colour: &str) {
    let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
    let _ = writeln!(svg, "<rect {place} fill=\"{colour}\"/>");
}

const GRID: &str = "stroke=\"#7a7a7a\" stroke-opacity=\"0.35\"";
const STRONG: &str = "stroke=\"#7a7a7a\" stroke-width=\"2\"";

/// One bar below the other, on a logarithmic axis.
pub fn bars(title: &str, axis_title: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 28.0;
    let bottom = 40.0 + ROW * bars.len() as f64;
    let mut svg = begin(title, bottom + 50.0);
    let values = bars.iter().flat_map(|bar| [bar.value, bar.mark.unwrap_or(bar.value)]);
    let axis = Axis::over(values, LEFT, RIGHT);
    for decade in axis.decades() {
        line(&mut svg, (axis.at(decade), 34.0), (axis.at(decade), bottom), GRID);
        text(&mut svg, axis.at(decade), bottom + 18.0, "middle", &decade.to_string());
    }
    text(&mut svg, (LEFT + RIGHT) / 2.0, bottom + 40.0, "middle", axis_title);
    for (index, bar) in bars.iter().enumerate() {
        let top = 40.0 + ROW * index as f64;
        let middle = top + 9.0;
        let end = axis.at(bar.value);
        text(&mut svg, LEFT - 8.0, middle + 5.0, "end", &bar.label);
        let colour = if bar.highlighted { OURS } else { PEERS[0] };
        rectangle(&mut svg, (LEFT, top), end - LEFT, 18.0, colour);
        let mut right = end;
        if let Some((least, most)) = bar.range {
            right = axis.at(most);
            line(&mut svg, (axis.at(least), middle), (right, middle), STRONG);
        }
        if let Some(mark) = bar.mark {
            let x = axis.at(mark);
            line(&mut svg, (x, top - 3.0), (x, top + 21.0), STRONG);
            right = right.max(x);
        }
        text(&mut svg, right + 6.0, middle + 5.0, "start", &bar.text);
    }
    svg + "</svg>\n"
}

/// One line for each name, the first one ours, on two logarithmic axes.
pub fn lines(
    title: &str,
    x_title: &str,
    y_title: &str,
    lines: &[(&str, Vec<(f64, f64)>)],
) -> String {
    const TOP: f64 = 70.0;
    const BOTTOM: f64 = 370.0;
    const START: f64 = 90.0;
    let mut svg = begin(title, BOTTOM + 50.0);
    let points = lines.iter().flat_map(|(_, points)| points);
    let x_axis = Axis::over(points.clone().map(|point| point.0), START, RIGHT);
    let y_axis = Axis::over(points.map(|point| point.1), BOTTOM, TOP);
    for decade in x_axis.decades() {
        let x = x_axis.at(decade);
        line(&mut svg, (x, TOP), (x, BOTTOM), GRID);
        text(&mut svg, x, BOTTOM + 18.0, "middle", &decade.to_string());
    }
    for decade in y_axis.decades() {
        let y = y_axis.at(decade);
        line(&mut svg, (START, y), (RIGHT, y), GRID);
        text(&mut svg, START - 8.0, y + 5.0, "end", &decade.to_string());
    }
    text(&mut svg, (START + RIGHT) / 2.0, BOTTOM + 40.0, "middle", x_title);
    text(&mut svg, START, TOP - 10.0, "end", y_title);
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = if index == 0 { OURS } else { PEERS[(index - 1) % PEERS.len()] };
        let places: Vec<(f64, f64)> =
            points.iter().map(|&(x, y)| (x_axis.at(x), y_axis.at(y))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = ["", "8 4", "2 3", "10 3 2 3"][index % 4];
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" \
             stroke-dasharray=\"{dashes}\"/>",
            path.join(" ")
        );
        for (x, y) in places {
            rectangle(&mut svg, (x - 3.0, y - 3.0), 6.0, 6.0, colour);
        }
        let left = START + 180.0 * index as f64;
        rectangle(&mut svg, (left, 34.0), 14.0, 14.0, colour);
        text(&mut svg, left + 20.0, 46.0, "start", name);
    }
    svg + "</svg>\n"
}
