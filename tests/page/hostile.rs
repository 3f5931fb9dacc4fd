//! Names that look like markup.

use crate::chromium::Tab;
use crate::support::{compared, count, random_files};

/// Names are data, whatever they look like.
#[test]
fn hostile_names_are_text() {
    const HOSTILE: &str =
        "</script><img src=x onerror=alert(1)><script>document.title='owned'</script><!--\u{2028}";
    let folder = tempfile::tempdir().unwrap();
    random_files(folder.path());
    let edit = |text: String| {
        let file = |i: usize| format!("\"{i}.jpg\"");
        let hostile = serde_json::to_string(HOSTILE).unwrap();
        let numbered = |i: usize| format!("\"{i}{}", &hostile[1..]);
        let text = text.replace("\"class 2\"", &hostile);
        (1..=60).fold(text, |text, i| text.replace(&file(i), &numbered(i)))
    };
    let truth = folder.path().join("gt.json");
    std::fs::write(&truth, edit(std::fs::read_to_string(&truth).unwrap())).unwrap();
    let ran = compared(folder.path());
    let page = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(page.matches("<script").count(), 2, "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<img") && !page.contains('\u{2028}'));
    let path = folder.path().join("page.html");
    std::fs::write(&path, page).unwrap();
    let Some(mut tab) = Tab::open(&path) else { return };
    assert!(tab.eval("document.title").as_str().unwrap().starts_with("detgate: "));
    let text = tab.eval("document.body.innerText");
    assert!(text.as_str().unwrap().contains("</script><img src=x"), "{text}");
    assert_eq!(count(&mut tab, "img, script:not(#data)"), 1, "its own script alone");
    // Even markup that came in some other way runs nothing.
    let injected = "{const d = document.createElement('div'); \
        d.innerHTML = '<img src=\"data:,\" onerror=\"document.title=1\">'; document.body.append(d); \
        const s = document.createElement('script'); s.textContent = 'document.title=2'; document.body.append(s); \
        new Promise((done) => setTimeout(() => done(document.title), 200))}";
    assert!(tab.eval(injected).as_str().unwrap().starts_with("detgate: "));
    let complaints = tab.complaints();
    assert!(
        !complaints.is_empty() && complaints.iter().all(|c| c.contains("Content Security Policy")),
        "{complaints:?}"
    );
}
