import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // The page is one small application: no need to fetch anything from elsewhere.
  build: {
    target: 'es2022',
    // Older browsers know neither light-dark() nor popovers.
    cssTarget: ['chrome125', 'firefox125', 'safari17.5'],
    sourcemap: false,
    chunkSizeWarningLimit: 700,
    // The meeting page, and the page of administrators.
    rolldownOptions: { input: ['index.html', 'admin.html'] },
  },
  server: {
    proxy: {
      '/ws': { target: 'ws://127.0.0.1:8080', ws: true },
      '/v1': { target: 'http://127.0.0.1:8080' },
    },
  },
});
