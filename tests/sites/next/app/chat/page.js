import Chat from './chat';

export const metadata = { title: 'Chat' };

export default function Page() {
  return (
    <>
      <h1>Chat</h1>
      <Chat />
    </>
  );
}
