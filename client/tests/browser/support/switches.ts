/** Where Chromium is. */
export const CHROMIUM = process.env.OPENCALL_CHROMIUM ?? '/usr/bin/chromium';

/** Chromium's switches: invented devices, no questions, real addresses, nothing fetched from outside. */
export const CHROMIUM_SWITCHES = [
  '--no-sandbox',
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream',
  '--auto-select-desktop-capture-source=Entire screen',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-quic',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
];
