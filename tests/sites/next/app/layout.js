import Link from 'next/link';

export const metadata = { title: { default: 'Harbour', template: '%s · Harbour' } };

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body style={{ fontFamily: 'sans-serif', margin: '3rem' }}>
        <nav style={{ display: 'flex', gap: '1rem' }}>
          <Link href="/">Home</Link>
          <Link href="/chat">Chat</Link>
          <Link href="/guides/mooring">Mooring</Link>
          <Link href="/guides/anchoring">Anchoring</Link>
        </nav>
        <main>{children}</main>
      </body>
    </html>
  );
}
