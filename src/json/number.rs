//! Decimal numbers to the nearest `f64`, as Python's `float()` and Rust's `str::parse` round them.
//!
//! Most numbers of annotations and results are short: at most 19 digits, at most 19 of them after
//! the point. These are rounded here, with integers; the rest goes to the standard library.

/// 10^0 to 10^22, the powers of ten that an `f64` holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads the JSON number at the start of `text`: its value and its length; `None` where there is
/// none. What is too large is infinite, as in Python.
pub(super) fn parse(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let mut digits = Digits { text, at: usize::from(negative), value: 0 };
    let whole = digits.run()?;
    let has_leading_zero = whole > 1 && text[digits.at - whole] == b'0';
    if has_leading_zero {
        return None;
    }
    let decimals = if digits.eat(b'.') { digits.run()? } else { 0 };
    let Digits { mut at, value, .. } = digits;
    let mut exponent = 0;
    if matches!(text.get(at), Some(b'e' | b'E')) {
        (exponent, at) = read_exponent(text, at + 1)?;
    }
    let power = exponent - decimals as i64;
    let magnitude = match whole + decimals {
        ..=19 => scale(value, power),
        // The value has wrapped around.
        _ => None,
    };
    let magnitude = magnitude
        .or_else(|| std::str::from_utf8(&text[usize::from(negative)..at]).ok()?.parse().ok())?;
    Some((if negative { -magnitude } else { magnitude }, at))
}

/// An exponent after its `e`, and where it ends; saturating, far beyond what an `f64` can tell.
fn read_exponent(text: &[u8], mut at: usize) -> Option<(i64, usize)> {
    let negative = text.get(at) == Some(&b'-');
    at += usize::from(matches!(text.get(at), Some(b'-' | b'+')));
    let start = at;
    let mut exponent = 0i64;
    while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
        exponent = (exponent * 10 + i64::from(digit - b'0')).min(1_000_000);
        at += 1;
    }
    (at > start).then_some((if negative { -exponent } else { exponent }, at))
}

/// Reads digits into an integer.
struct Digits<'a> {
    text: &'a [u8],
    at: usize,
    value: u64,
}

impl Digits<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Appends the digits that follow to the value, and counts them; `None` where there are none.
    fn run(&mut self) -> Option<usize> {
        let start = self.at;
        while let Some(digit) = self.text.get(self.at).map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            self.value = self.value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        (self.at > start).then(|| self.at - start)
    }
}

/// `value * 10^power`, rounded to the nearest, ties to even; `None` where this is not the way.
fn scale(value: u64, power: i64) -> Option<f64> {
    match power {
        0 => Some(value as f64),
        // Both operands are exact, so the one operation rounds once.
        1..=22 if value < 1 << 53 => Some(value as f64 * POWERS[power as usize]),
        -22..0 if value < 1 << 53 => Some(value as f64 / POWERS[-power as usize]),
        -19..0 => Some(divide(value, 10u64.pow(-power as u32))),
        _ => None,
    }
}

/// `value / divisor`, rounded to the nearest, ties to even.
///
/// The quotient of the two as fractions in [1/2, 1), with 63 bits after the point, has at least 62
/// significant bits, of which an `f64` keeps 53. What the division leaves is marked in the last bit,
/// where it cannot be mistaken for a tie, and the conversion to `f64` rounds.
fn divide(value: u64, divisor: u64) -> f64 {
    if value == 0 {
        return 0.0;
    }
    let (value_shift, divisor_shift) = (value.leading_zeros(), divisor.leading_zeros());
    let numerator = u128::from(value << value_shift) << 63;
    let divisor = u128::from(divisor << divisor_shift);
    let (quotient, rest) = (numerator / divisor, numerator % divisor);
    let marked = quotient as u64 | u64::from(rest != 0);
    let exponent = i64::from(divisor_shift) - i64::from(value_shift) - 63;
    // A power of two between 2^-126 and 2^0, by the bits of its exponent.
    let power_of_two = f64::from_bits(((exponent + 1023) as u64) << 52);
    marked as f64 * power_of_two
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Option<f64> {
        let (value, length) = parse(text.as_bytes())?;
        assert_eq!(length, text.len(), "{text}");
        Some(value)
    }

    #[test]
    fn numbers_are_rounded_as_the_standard_library_rounds_them() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "7",
            "0.1",
            "258.1499938964844",
            "0.30000000000000004",
            "9007199254740993",
            "9007199254740992.5",
            "0.9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1844674407370955161.7",
            "0.00000000000000000012345",
            "1e22",
            "1E+5",
            "12e-3",
            "4.9e-324",
            "2.2250738585072011e-308",
            "1e400",
            "1e-400",
            "123456789012345678901234567890.5",
            "0.00000000000000000000000000000000000000000000001",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(value(text).map(f64::to_bits), Some(expected.to_bits()), "{text}");
        }
    }

    #[test]
    fn what_json_does_not_call_a_number_is_none() {
        for text in ["", "-", ".5", "1.", "01", "-01", "1e", "1e+", "+1", "x", "NaN", "-Infinity"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_number_ends_where_its_digits_do() {
        assert_eq!(parse(b"12.5,"), Some((12.5, 4)));
        assert_eq!(parse(b"0]"), Some((0.0, 1)));
    }

    proptest! {
        #[test]
        fn every_shortest_form_comes_back(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            for text in [format!("{number}"), format!("{number:e}")] {
                prop_assert_eq!(value(&text).unwrap().to_bits(), bits, "{}", text);
            }
        }

        #[test]
        fn every_decimal_is_rounded_to_the_nearest(digits in any::<u64>(), decimals in 0..25usize) {
            let text = format!("{digits:0>width$}", width = decimals + 1);
            let (whole, fraction) = text.split_at(text.len() - decimals);
            let text = if decimals == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") };
            prop_assert_eq!(value(&text).unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
        }

        #[test]
        fn halfway_between_two_doubles_goes_to_the_even_one(whole in (1u64 << 52)..(1 << 53)) {
            // Doubles are whole numbers there.
            let even = whole + whole % 2;
            prop_assert_eq!(value(&format!("{whole}.5")).unwrap(), even as f64);
        }
    }
}
