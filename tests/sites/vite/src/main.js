import { createApp } from 'vue';
import { createRouter, createWebHistory } from 'vue-router';
import App from './App.vue';
import Home from './Home.vue';

const router = createRouter({
  history: createWebHistory(),
  routes: [
    { path: '/', component: Home },
    { path: '/users/:id', component: () => import('./User.vue') },
    { path: '/about', component: () => import('./About.vue') },
    { path: '/:path(.*)', component: () => import('./Missing.vue') },
  ],
});

createApp(App).use(router).mount('#app');
