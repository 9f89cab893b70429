import { createRoot } from 'react-dom/client';
import { App } from './App';
import '../react/meeting.css';
import './page.css';

const root = document.getElementById('root');
if (!root) throw new Error('index.html has no #root');
createRoot(root).render(<App />);
