import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [vue()],
  // Two builds that say different things are two releases.
  define: { RELEASE: JSON.stringify(process.env.RELEASE ?? 'one') },
});
