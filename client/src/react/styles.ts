import { useEffect } from 'react';
import css from './meeting.css?inline';

let users = 0;
let sheet: CSSStyleSheet | undefined;

/**
 * The styles of `MeetingView`, while a component is mounted that wants them. A constructed style sheet: importing this
 * module changes no page, and a content security policy need not allow inline styles.
 */
export function useMeetingStyles(): void {
  useEffect(() => {
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(css);
    }
    const own = sheet;
    users += 1;
    if (users === 1) document.adoptedStyleSheets = [...document.adoptedStyleSheets, own];
    return () => {
      users -= 1;
      if (users > 0) return;
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== own);
    };
  }, []);
}
