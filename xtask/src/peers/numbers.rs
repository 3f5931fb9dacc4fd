//! The 12 numbers, out of what each engine prints, and whether two sets of them are the same.

use anyhow::{Context, Result, ensure};

/// In pycocotools' order, by the names that detgate's and hotcoco's JSON give them.
const NAMES: [&str; 12] =
    ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

/// pycocotools' 12 numbers; -1 for undefined.
pub(crate) type Numbers = [f64; 12];

/// The 12 printed lines, such as ` Average Precision  (AP) @[ IoU=0.50:0.95 | ... ] = 0.123`: three decimals each.
/// faster-coco-eval prints the recall at single thresholds too, which pycocotools does not have.
///
/// # Errors
/// When there are not exactly 12.
pub(crate) fn printed(text: &str) -> Result<Numbers> {
    let lines = text.lines().filter(|line| {
        let recall_at_one = line.contains("(AR)") && !line.contains("IoU=0.50:0.95");
        line.contains("@[ IoU=") && !recall_at_one
    });
    let values = lines.map(|line| number(line.rsplit('=').next().unwrap_or("")));
    twelve(values.collect::<Result<_>>()?)
}

/// The line that `summarize.py` adds.
///
/// # Errors
/// When it is not there or does not hold 12 numbers.
pub(crate) fn exact_line(text: &str) -> Result<Numbers> {
    let line = text.lines().find_map(|line| line.strip_prefix("exact:"));
    let line = line.context("there is no line `exact: ...`")?;
    twelve(line.split_whitespace().map(number).collect::<Result<_>>()?)
}

/// JSON in which each number first stands under its own name, over all classes: detgate's and hotcoco's.
///
/// # Errors
/// When a name is missing or has no number.
pub(crate) fn by_name(json: &str) -> Result<Numbers> {
    let values = NAMES.iter().map(|name| {
        let key = format!("\"{name}\":");
        let (_, rest) = json.split_once(&key).with_context(|| format!("no {key} in the JSON"))?;
        json_number(rest)
    });
    twelve(values.collect::<Result<_>>()?)
}

/// JSON in which the numbers stand in order, each as a `"value"`: vernier's.
///
/// # Errors
/// When there are not exactly 12.
pub(crate) fn by_order(json: &str) -> Result<Numbers> {
    twelve(json.split("\"value\":").skip(1).map(json_number).collect::<Result<_>>()?)
}

fn json_number(rest: &str) -> Result<f64> {
    let text = rest.split([',', '}', '\n']).next().unwrap_or("").trim();
    if text == "null" { Ok(-1.0) } else { number(text) }
}

fn number(text: &str) -> Result<f64> {
    text.trim().parse().with_context(|| format!("`{}` is no number", text.trim()))
}

fn twelve(values: Vec<f64>) -> Result<Numbers> {
    let found = values.len();
    Numbers::try_from(values).ok().with_context(|| format!("12 numbers expected, {found} found"))
}

/// Whether the lines an engine printed say what it computed.
///
/// # Errors
/// Which number is another one.
pub(crate) fn check_printed(printed: &Numbers, exact: &Numbers) -> Result<()> {
    for ((name, shown), value) in NAMES.iter().zip(printed).zip(exact) {
        ensure!((shown - value).abs() <= 0.000_500_001, "{name} is {value} but printed as {shown}");
    }
    Ok(())
}

/// In words: to the last bit, or how far apart.
pub(crate) fn agreement(ours: &Numbers, theirs: &Numbers) -> String {
    let pairs = || ours.iter().zip(theirs);
    let equal = pairs().filter(|(a, b)| a.to_bits() == b.to_bits()).count();
    if equal == 12 {
        return "all 12, to the last bit".into();
    }
    // total_cmp puts NaN last: a number that is none is the largest difference there is.
    let apart = pairs().map(|(a, b)| (a - b).abs()).max_by(f64::total_cmp).unwrap_or(0.0);
    format!("{equal} of 12, others up to {apart:.1e} apart")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
loading annotations into memory...
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.600
 Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 1.000
 Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 1.000
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = 0.600
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = -1.000
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = -1.000
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.600
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 0.601
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.602
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = 0.603
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = -1.000
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = -1.000
exact: 0.6 0.9999999999999999 1.0 0.6 -1.0 -1.0 0.6 0.601 0.602 0.603 -1.0 -1.0
";
    const EXACT: Numbers =
        [0.6, 0.999_999_999_999_999_9, 1.0, 0.6, -1.0, -1.0, 0.6, 0.601, 0.602, 0.603, -1.0, -1.0];

    #[test]
    fn pycocotools_lines_are_read_among_its_chatter() {
        let shown = printed(LINES).unwrap();
        assert_eq!(shown, [0.6, 1., 1., 0.6, -1., -1., 0.6, 0.601, 0.602, 0.603, -1., -1.]);
        assert_eq!(exact_line(LINES).unwrap(), EXACT);
        check_printed(&shown, &EXACT).unwrap();
        let surplus =
            " Average Recall     (AR) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.477";
        assert_eq!(printed(&format!("{LINES}{surplus}\n")).unwrap(), shown);
    }

    #[test]
    fn a_missing_line_is_not_read_as_eleven_numbers() {
        let eleven: Vec<&str> = LINES.lines().filter(|line| !line.contains("0.603")).collect();
        let error = printed(&eleven.join("\n")).unwrap_err().to_string();
        assert_eq!(error, "12 numbers expected, 11 found");
        assert!(exact_line("no such line").is_err());
    }

    #[test]
    fn detgates_json_is_read_before_its_classes() {
        let members: Vec<String> = NAMES
            .iter()
            .zip(EXACT)
            .map(
                |(name, v)| {
                    if v < 0.0 { format!("\"{name}\": null") } else { format!("\"{name}\": {v}") }
                },
            )
            .collect();
        let json =
            format!("{{\n  {},\n  \"per_class\": [{{\"AP\": 0.1}}]\n}}", members.join(",\n  "));
        assert_eq!(by_name(&json).unwrap(), EXACT);
        assert!(
            by_name(&json.replace("\"AR10\"", "\"AR11\""))
                .unwrap_err()
                .to_string()
                .contains("AR10")
        );
    }

    #[test]
    fn verniers_json_is_read_in_order() {
        let lines: Vec<String> =
            EXACT.iter().map(|v| format!("{{\"metric\":\"AP\",\"value\":{v:?}}}")).collect();
        assert_eq!(by_order(&format!("{{\"lines\":[{}]}}", lines.join(","))).unwrap(), EXACT);
    }

    #[test]
    fn one_bit_is_a_difference() {
        assert_eq!(agreement(&EXACT, &EXACT), "all 12, to the last bit");
        let mut other = EXACT;
        other[1] = 1.0;
        assert_eq!(agreement(&EXACT, &other), "11 of 12, others up to 1.1e-16 apart");
        other[2] = f64::NAN;
        assert_eq!(agreement(&EXACT, &other), "10 of 12, others up to NaN apart");
    }

    #[test]
    fn lines_that_contradict_the_numbers_are_noticed() {
        let mut shown = printed(LINES).unwrap();
        shown[7] = 0.6;
        assert!(check_printed(&shown, &EXACT).unwrap_err().to_string().contains("AR10"));
    }
}
