'use client';

import dynamic from 'next/dynamic';
import { useState } from 'react';

// A chunk of its own, which the browser asks for only when it is needed.
const History = dynamic(() => import('./history'), { ssr: false });

export default function Chat() {
  const [said, say] = useState(0);
  const [history, showHistory] = useState(false);
  return (
    <>
      <button id="say" onClick={() => say(said + 1)}>Said {said} times</button>
      <button id="history" onClick={() => showHistory(true)}>History</button>
      {history && <History />}
    </>
  );
}
