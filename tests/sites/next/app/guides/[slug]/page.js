const guides = { mooring: 'Mooring', anchoring: 'Anchoring' };

export const dynamicParams = false;

export function generateStaticParams() {
  return Object.keys(guides).map((slug) => ({ slug }));
}

export async function generateMetadata({ params }) {
  return { title: guides[(await params).slug] };
}

export default async function Guide({ params }) {
  return <h1>{guides[(await params).slug]}</h1>;
}
